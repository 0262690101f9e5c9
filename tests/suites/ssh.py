# SPDX-License-Identifier: MIT
"""OpenSSH with keys, ports and files of its own: what the user and the system have is not touched."""

import contextlib
import os
import pwd


class Sshd:
    """An sshd of the tests, and how clients reach it."""

    def __init__(self, side, programs, work_dir, port, name="sshd"):
        self.port = port
        self.directory = work_dir / name
        self.directory.mkdir(mode=0o755)
        for key in ("host", "user"):
            programs.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.directory / key])
        known = (self.directory / "host.pub").read_text()
        (self.directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {known}")
        self._client_config()
        self._server_config()
        if os.geteuid() == 0:  # where sshd's unprivileged child lives
            with contextlib.suppress(FileExistsError):
                os.mkdir("/run/sshd", mode=0o755)
        self.program = side.start(["/usr/sbin/sshd", "-D", "-e", "-f", self.directory / "sshd_config"])
        self.program.wait_listening(port)

    def _server_config(self):
        (self.directory / "sshd_config").write_text("\n".join([
            "ListenAddress 127.0.0.1",
            f"Port {self.port}",
            f"HostKey {self.directory}/host",
            f"AuthorizedKeysFile {self.directory}/user.pub",
            "PidFile none",
            "StrictModes no",
            "UsePAM no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "MaxSessions 100",
            "MaxStartups 100",
            "Subsystem sftp /usr/lib/openssh/sftp-server"]) + "\n")

    def _client_config(self):
        self.config = self.directory / "ssh_config"
        self.config.write_text("\n".join([
            f"Host {self.directory.name}",
            "HostName 127.0.0.1",
            f"Port {self.port}",
            f"User {pwd.getpwuid(os.geteuid()).pw_name}",
            f"IdentityFile {self.directory}/user",
            "IdentitiesOnly yes",
            f"UserKnownHostsFile {self.directory}/known_hosts",
            "GlobalKnownHostsFile /dev/null",
            "StrictHostKeyChecking yes",
            "BatchMode yes",
            "ExitOnForwardFailure yes"]) + "\n")

    @property
    def host(self):
        return self.directory.name
