# SPDX-License-Identifier: MIT
"""Mail: postfix takes it from swaks and gives it on by LMTP to dovecot; curl reads it there by IMAP, with TLS, and POP3.

Both have a master that clears its environment and executes what serves: under limits, in a chroot, as another user.
"""

import os
import pathlib
import pwd

import pytest

MESSAGES = 20
TEXT_LEN = 200_000


@pytest.fixture
def text(work_dir):
    path = work_dir / "text"
    path.write_text("".join(f"line {n} of the message\n" for n in range(TEXT_LEN // 25)))
    return path


def dovecot(side, work_dir, ports, certificate):
    """IMAP, POP3 and LMTP; everybody's password is "secret", everybody's mail below work_dir."""
    key, cert = certificate
    owner = pwd.getpwnam("nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)
    mail = work_dir / "mail"
    mail.mkdir()
    os.chown(mail, owner.pw_uid, owner.pw_gid)
    config = work_dir / "dovecot.conf"
    config.write_text(f"""
base_dir = {work_dir}/dovecot
state_dir = {work_dir}/state
log_path = /dev/stderr
protocols = imap pop3 lmtp
ssl = yes
ssl_cert = <{cert}
ssl_key = <{key}
disable_plaintext_auth = no
default_login_user = dovenull
default_internal_user = dovecot
first_valid_uid = 1
mail_location = maildir:{mail}/%u
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid={owner.pw_uid} gid={owner.pw_gid} home={mail}/%u allow_all_users=yes
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {ports['imap']}
  }}
  inet_listener imaps {{
    address = 127.0.0.1
    port = {ports['imaps']}
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    address = 127.0.0.1
    port = {ports['pop3']}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {ports['lmtp']}
  }}
}}
""")
    program = side.start(["dovecot", "-F", "-c", config])
    for port in ports.values():
        program.wait_listening(port)
    return program


@pytest.mark.seconds(200)
def test_dovecot(server, client, work_dir, free_port, certificate, text, traffic):
    ports = {name: free_port() for name in ("imap", "imaps", "pop3", "lmtp")}
    dovecot(server, work_dir, ports, certificate)
    with traffic(MESSAGES * TEXT_LEN * 8 // 10, connections=MESSAGES):
        senders = [client.start(["swaks", "--silent", "2", "--timeout", "120", "--protocol", "LMTP", "--server", "127.0.0.1", "--port", str(ports["lmtp"]),
                                 "--from", "a@example.org", "--to", f"user{n % 4}", "--body", f"@{text}",
                                 "--header", f"Subject: message {n}"]) for n in range(MESSAGES)]
        for sender in senders:
            assert sender.wait(60) == 0, sender.describe()
    curl = ["curl", "--silent", "--show-error", "--user", "user1:secret", "--cacert", certificate[1]]
    for url in (f"imap://127.0.0.1:{ports['imap']}/INBOX;MAILINDEX=3", f"imaps://127.0.0.1:{ports['imaps']}/INBOX;MAILINDEX=3",
                f"pop3://127.0.0.1:{ports['pop3']}/3"):
        with traffic(TEXT_LEN // 2, connections=1):
            told = client.run([*curl, url])
        assert text.read_text() in told.stdout.replace("\r\n", "\n"), told.describe()


def postfix(request, side, work_dir, port, lmtp):
    """A postfix of its own: queue, configuration and data below work_dir."""
    config, queue, data = work_dir / "postfix", work_dir / "queue", work_dir / "data"
    for path in (config, queue, data):
        path.mkdir()
    os.chown(data, pwd.getpwnam("postfix").pw_uid, 0)
    (config / "main.cf").write_text("\n".join([
        "compatibility_level = 3.6",
        f"queue_directory = {queue}",
        f"data_directory = {data}",
        "maillog_file = /dev/stdout",
        "maillog_file_prefixes = /dev",
        "inet_interfaces = 127.0.0.1",
        "inet_protocols = ipv4",
        "myhostname = mail.example.org",
        "mydestination = example.org",
        "local_recipient_maps =",
        f"mailbox_transport = lmtp:inet:127.0.0.1:{lmtp}",
        "mynetworks = 127.0.0.0/8",
        "smtputf8_enable = no",
        "alias_maps =", "alias_database ="]) + "\n")
    lines = pathlib.Path("/etc/postfix/master.cf").read_text().splitlines()
    (config / "master.cf").write_text("\n".join(
        f"127.0.0.1:{port} inet n - y - - smtpd" if line.startswith("smtp ") and "inet" in line else line
        for line in lines if not line.startswith(("#", " ", "\t"))) + "\n")
    program = side.start(["/usr/sbin/postfix", "-c", config, "start-fg"])
    request.addfinalizer(lambda: side.run(["/usr/sbin/postfix", "-c", config, "stop"], status=None))
    program.wait_listening(port)
    return program


@pytest.mark.seconds(200)
@pytest.mark.skipif(os.geteuid() != 0, reason="postfix is root's")
def test_postfix(request, server, client, native, work_dir, free_port, certificate, text, traffic):
    """From swaks by SMTP to postfix, a chrooted child for each step, and from there by LMTP to dovecot."""
    ports = {name: free_port() for name in ("imap", "imaps", "pop3", "lmtp")}
    dovecot(native, work_dir, ports, certificate)
    port = free_port()
    program = postfix(request, server, work_dir, port, ports["lmtp"])
    with traffic(MESSAGES * text.stat().st_size, connections=MESSAGES):
        senders = [client.start(["swaks", "--silent", "2", "--timeout", "120", "--server", "127.0.0.1", "--port", str(port),
                                 "--from", "a@example.org", "--to", f"user{n % 4}@example.org", "--body", f"@{text}",
                                 "--header", f"Subject: message {n}"]) for n in range(MESSAGES)]
        for sender in senders:
            assert sender.wait(60) == 0, sender.describe()
    program.wait_until(lambda: program.stdout.count("status=sent") == MESSAGES, "delivery", 60)
    boxes = [path for path in work_dir.glob("mail/*/new/*") if text.read_text() in path.read_text().replace("\r\n", "\n")]
    assert len(boxes) == MESSAGES, program.describe()
