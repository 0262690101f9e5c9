# SPDX-License-Identifier: MIT
"""stress-ng's stressors of sockets and descriptors, with --verify, natively and under canal.

What a stressor does natively, pass or skip, it must do under canal. Ports are in blocks of their own.
"""

import re

import pytest

OPS = 3000
# Name, number of operations, options, port option
STRESSORS = {
    "sock": ("sock", OPS // 30, ["--sock-domain", "ipv4"], "--sock-port"),
    "sock-ipv6": ("sock", OPS // 30, ["--sock-domain", "ipv6"], "--sock-port"),
    "sock-unix": ("sock", OPS // 30, ["--sock-domain", "unix"], "--sock-port"),
    "sock-random": ("sock", OPS // 30, ["--sock-opts", "random", "--sock-type", "stream"], "--sock-port"),
    "sock-sendmmsg": ("sock", OPS // 30, ["--sock-opts", "sendmmsg"], "--sock-port"),
    "sockfd": ("sockfd", OPS, [], "--sockfd-port"),
    "sockmany": ("sockmany", OPS // 10, [], None),
    "udp": ("udp", OPS, ["--udp-domain", "ipv4"], "--udp-port"),
    "udp-ipv6": ("udp", OPS, ["--udp-domain", "ipv6"], "--udp-port"),
    "udp-lite": ("udp", OPS, ["--udp-lite"], "--udp-port"),
    "epoll": ("epoll", OPS, ["--epoll-domain", "ipv4"], "--epoll-port"),
    "epoll-ipv6": ("epoll", OPS, ["--epoll-domain", "ipv6"], "--epoll-port"),
    "sendfile": ("sendfile", OPS, [], None),
    "splice": ("splice", OPS, [], None),
    "dup": ("dup", OPS, [], None),
    "spawn": ("spawn", OPS // 10, [], None),
    "close": ("close", OPS, [], None),
}


def run(side, work_dir, port, name):
    stressor, ops, options, port_option = STRESSORS[name]
    ports = [port_option, str(port)] if port_option else []
    cwd = work_dir / side.kind
    cwd.mkdir()
    return side.run(["stress-ng", "--temp-path", cwd, f"--{stressor}", "1", f"--{stressor}-ops", str(ops), *options,
                     *ports, "--verify", "--timeout", "400", "--metrics-brief", "--oomable"],
                    cwd=cwd, seconds=110, status=None)


def complaints(program):
    """Lines of kinds that a good run has none of, without what differs from run to run."""
    lines = (program.stdout + program.stderr).splitlines()
    return {re.sub(r"\d+", "N", line) for line in lines if re.match(r"stress-ng: (fail|error|warn|skip)", line)}


def bogo_ops(program, stressor):
    found = re.search(rf"\] {stressor} +(\d+) ", program.stdout + program.stderr)
    return int(found.group(1)) if found else 0


@pytest.mark.canal_only
@pytest.mark.seconds(240)
@pytest.mark.parametrize("name", STRESSORS)
def test_stressor(native, canal, work_dir, free_port, name):
    stressor, ops = STRESSORS[name][:2]
    wanted = run(native, work_dir, free_port(), name)
    got = run(canal, work_dir, free_port(), name)
    assert got.returncode == wanted.returncode and complaints(got) <= complaints(wanted), \
        got.describe() + wanted.describe()
    # all its operations, unless the native one did not get that far either
    assert bogo_ops(got, stressor) >= min(ops, bogo_ops(wanted, stressor)), got.describe()
