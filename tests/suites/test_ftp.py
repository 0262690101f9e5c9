# SPDX-License-Identifier: MIT
"""FTP and TFTP: a connection for each transfer, in both directions, a process for each session, confined.

vsftpd limits its address space, and changes its root and user; lftp has several connections
at once.
"""

import os

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="FTP servers change their user")


def vsftpd(side, work_dir, port, root):
    empty = work_dir / "empty"
    empty.mkdir(mode=0o755)
    config = work_dir / "vsftpd.conf"
    config.write_text("\n".join([
        "listen=YES", "listen_address=127.0.0.1", f"listen_port={port}", "background=NO",
        "anonymous_enable=YES", "anon_upload_enable=YES", "write_enable=YES", "anon_other_write_enable=YES",
        "anon_umask=022", "local_enable=NO", f"anon_root={root}", f"secure_chroot_dir={empty}", "pasv_enable=YES",
        "port_enable=YES", "connect_from_port_20=NO", "nopriv_user=nobody", "no_anon_password=YES",
        "seccomp_sandbox=NO", "xferlog_enable=NO"]) + "\n")
    return side.start(["vsftpd", config])


@pytest.mark.parametrize("mode", ["passive", "active"])
def test_ftp(server, client, work_dir, free_port, big_file, small_files, traffic, mode):
    root, port = work_dir / "root", free_port()
    (root / "upload").mkdir(parents=True)
    (root / "upload").chmod(0o777)
    for file in small_files[:60]:
        os.link(file.path, root / file.name)
    os.link(big_file.path, root / big_file.name)
    vsftpd(server, work_dir, port, root).wait_listening(port)
    (work_dir / "down").mkdir()
    commands = work_dir / "commands"
    commands.write_text("\n".join([
        "set net:max-retries 1", "set net:timeout 120", "set cmd:fail-exit yes", "set xfer:log no",
        f"set ftp:passive-mode {'yes' if mode == 'passive' else 'no'}", "set ftp:port-ipv4 127.0.0.1",
        f"open -u anonymous,x ftp://127.0.0.1:{port}",
        f"lcd {work_dir}/down", "ls", f"pget -n 4 {big_file.name}", f"put -O upload {big_file.path}",
        f"mirror --parallel=4 --include small- --exclude upload . {work_dir}/mirror", "bye"]) + "\n")
    with traffic(2 * big_file.length, connections=60):
        told = client.run(["lftp", "-f", commands], env={"HOME": str(work_dir)}, cwd=work_dir, seconds=100)
    big_file.assert_equal(work_dir / "down" / big_file.name)
    big_file.assert_equal(root / "upload" / big_file.name)
    for file in small_files[:60]:
        file.assert_equal(work_dir / "mirror" / file.name)
    assert "large" not in told.stderr, told.describe()


def test_tftp(server, client, work_dir, free_port, small_files, traffic):
    """A child for each transfer, with a port of its own."""
    port, root = free_port(), work_dir / "root"
    root.mkdir()
    root.chmod(0o777)
    for file in small_files[:20]:
        os.link(file.path, root / file.name)
    program = server.start(["in.tftpd", "--foreground", "-4", "--address", f":{port}", "--create", "--permissive",
                            "--user", "nobody", "--secure", root])
    program.wait_listening(port, "udp")
    work_dir.chmod(0o777)
    for file in small_files[:20]:
        with traffic(file.length, connections=0):
            client.run(["tftp", "-m", "binary", "127.0.0.1", str(port), "-c", "get", file.name], cwd=work_dir)
            client.run(["tftp", "-m", "binary", "127.0.0.1", str(port), "-c", "put", file.name, f"up-{file.name}"],
                       cwd=work_dir)
        file.assert_equal(work_dir / file.name)
        file.assert_equal(root / f"up-{file.name}")
