# SPDX-License-Identifier: MIT
"""Programs that call each other: gRPC, MPI, dask, a compiler's cache (tokio), SIP through a proxy of many processes."""

import re

import pytest

from harness import HERE, PYTHON

PROGRAMS = HERE.parent / "suites/programs"
CALLS = 500
# sipp gives up where its own loop is late too often
UNWATCHED = [word for kind in ("minor", "major") for word in (f"-watchdog_{kind}_maxtriggers", "1000000")]
SIP_PROXY = """#!KAMAILIO
log_stderror=yes
fork=yes
children=3
tcp_children=3
auto_aliases=no
listen=udp:127.0.0.1:{port}
listen=tcp:127.0.0.1:{port}
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "siputils.so"
request_route {{
	if (has_totag()) {{
		if (loose_route()) {{ t_relay(); exit; }}
		if (is_method("ACK")) {{ if (t_check_trans()) {{ t_relay(); }} exit; }}
	}}
	if (is_method("INVITE")) record_route();
	$du = "sip:127.0.0.1:{callee};transport={protocol}";
	t_relay();
}}
"""


def test_grpc(server, client, free_port, traffic):
    """Calls and streams of 8 channels."""
    port = free_port()
    server.start([PYTHON, PROGRAMS / "grpc_ends.py", "serve", str(port)]).wait_listening(port)
    with traffic(2 * 8 * 3_000_000, connections=8):
        told = client.run([PYTHON, PROGRAMS / "grpc_ends.py", "ask", str(port)])
    assert told.stdout == "all equal\n", told.describe()


def test_mpi(canal, work_dir):
    """Four ranks, and the daemon that starts them, over TCP."""
    env = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "HOME": str(work_dir), "TMPDIR": str(work_dir)}
    loopback = ["--mca", "btl", "tcp,self", "--mca", "pml", "ob1", "--mca", "btl_tcp_if_include", "lo", "--mca", "oob_tcp_if_include", "lo"]
    told = canal.run(["mpirun", "-n", "4", "--oversubscribe", *loopback, PYTHON, PROGRAMS / "mpi_ring.py"], env=env)
    assert told.stdout == "all equal\n", told.describe()


def test_sccache(canal, work_dir, free_port):
    """The threads of its server sleep in an empty epoll set, to which another adds the listener by a duplicate."""
    (work_dir / "empty.c").write_text("int nothing;\n")
    env = {"SCCACHE_DIR": str(work_dir / "cache"), "SCCACHE_SERVER_PORT": str(free_port()), "HOME": str(work_dir)}
    server = canal.start(["sccache"], env={**env, "SCCACHE_START_SERVER": "1", "SCCACHE_NO_DAEMON": "1"})
    server.wait_listening(int(env["SCCACHE_SERVER_PORT"]))
    for number in range(10):
        canal.run(["sccache", "gcc", "-c", "empty.c", "-o", f"{number}.o"], env=env, cwd=work_dir)
    told = canal.run(["sccache", "--show-stats"], env=env)
    assert re.search(r"Cache hits +9\n", told.stdout), told.describe()


def test_dask(server, client, work_dir, free_port, traffic):
    """A scheduler and two workers, which get from each other what they computed."""
    port = free_port()
    env = {"HOME": str(work_dir), **{f"DASK_DISTRIBUTED__COMM__TIMEOUTS__{what}": "120s" for what in ("CONNECT", "TCP")}}
    server.start([PYTHON, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port),
                  "--no-dashboard", "--dashboard-address", ":0"], env=env, cwd=work_dir).wait_listening(port)
    for _ in range(2):
        server.start([PYTHON, "-m", "distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", "--host", "127.0.0.1",
                      "--nthreads", "2", "--no-dashboard", "--no-nanny"], env=env, cwd=work_dir)
    with traffic(10_000, connections=1):  # they compress
        told = client.run([PYTHON, PROGRAMS / "dask_client.py", str(port)], env=env)
    assert told.stdout == "20000000 20000000\n", told.describe()


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_kamailio(server, client, work_dir, free_port, protocol):
    """500 calls through a proxy, whose processes send each other their connections. Datagrams may overtake each other."""
    port, callee, caller = free_port(), free_port(), free_port()
    config = work_dir / "kamailio.cfg"
    config.write_text(SIP_PROXY.format(port=port, callee=callee, protocol=protocol))
    server.start(["kamailio", "-DD", "-E", "-f", config, "-Y", work_dir, "-P", work_dir / "pid", "-w", work_dir],
                 cwd=work_dir).wait_listening(port, protocol)
    sipp = ["sipp", "-nostdin", "-i", "127.0.0.1"]
    client.start([*sipp, "-sn", "uas", "-p", str(callee), "-t", f"{protocol[0]}1"], cwd=work_dir).wait_listening(callee, protocol)
    told = client.run([*sipp, "-sn", "uac", f"127.0.0.1:{port}", "-p", str(caller), "-t", f"{protocol[0]}n", "-max_socket", "200",
                       "-m", str(CALLS), "-r", "200", "-d", "10", "-timeout", "200", *UNWATCHED, "-timeout_error"], cwd=work_dir, status=None)
    done = int(re.findall(r"Successful call.*\| +(\d+)", told.stdout)[-1])
    assert done == CALLS if protocol == "tcp" else done >= CALLS * 0.95, told.describe()
