# SPDX-License-Identifier: MIT
"""One echo in many runtimes, each with an event loop, threads or buffers of its own.

Each answers, and asks with 16 connections at once, which it writes to and reads at the same time.
"""

import shutil

import pytest

from harness import HERE, PYTHON

ECHO = HERE.parent / "suites/programs/echo"
PEERS, LENGTH = 16, 300_000


ENDS = {
    "asio": (lambda d: [d / "echo"], lambda d: ["g++", "-O1", "-pthread", "-o", d / "echo", ECHO / "echo.cpp"]),
    "eventmachine": (lambda d: ["ruby", ECHO / "echo.rb"], None),
    "gio": (lambda d: [PYTHON, ECHO / "loops.py", "gio"], None),
    "libev": (lambda d: ["perl", ECHO / "echo.pl"], None),
    "mono": (lambda d: ["mono", d / "Echo.exe"], lambda d: ["mcs", f"-out:{d}/Echo.exe", ECHO / "Echo.cs"]),
    "ocaml": (lambda d: [d / "echo"], lambda d: ["ocamlopt", "-I", "+threads", "unix.cmxa", "threads.cmxa", "-o", d / "echo", d / "echo.ml"]),
    "php": (lambda d: ["php", ECHO / "echo.php"], None),
    "qt": (lambda d: [PYTHON, ECHO / "loops.py", "qt"], None),
    "rust": (lambda d: [d / "echo"], lambda d: ["rustc", "-O", "-o", d / "echo", ECHO / "echo.rs"]),
    "sbcl": (lambda d: ["sbcl", "--script", ECHO / "echo.lisp"], None),
    "tcl": (lambda d: ["tclsh", ECHO / "echo.tcl"], None),
    "trio": (lambda d: [PYTHON, ECHO / "loops.py", "trio"], None),
    "uvloop": (lambda d: [PYTHON, ECHO / "loops.py", "uvloop"], None),
}


@pytest.fixture(scope="module")
def ends(session_dir, programs_of_module):
    """What to run for a runtime, compiled once."""
    made = {}

    def end(name):
        if name not in made:
            argv, compiler = ENDS[name]
            directory = session_dir / f"echo-{name}"
            directory.mkdir()
            shutil.copy(ECHO / "echo.ml", directory)  # its compiler writes beside its source
            if compiler:
                programs_of_module.run(compiler(directory), seconds=120)
            made[name] = argv(directory)
        return made[name]
    return end


@pytest.mark.parametrize("name", ENDS)
def test_echo(server, client, ends, work_dir, free_port, traffic, name):
    argv, port, env = ends(name), free_port(), {"HOME": str(work_dir)}
    server.start([*argv, "serve", str(port)], env=env).wait_listening(port)
    with traffic(2 * PEERS * LENGTH, connections=PEERS):
        told = client.run([*argv, "ask", str(port)], env=env)
    assert told.stdout == "all equal\n", told.describe()
