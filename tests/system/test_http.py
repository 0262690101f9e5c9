# SPDX-License-Identifier: MIT
"""Files over HTTP, byte for byte: curl and wget from nginx and python3 http.server."""

import pytest

import servers

PARALLEL = 200


@pytest.fixture(params=["nginx", "python"])
def web(request, server, work_dir, files_dir, free_port):
    """The port of a web server that serves files_dir."""
    port = free_port()
    if request.param == "nginx":
        servers.nginx(server, work_dir, port, files_dir)
    else:
        servers.python_http(server, port, files_dir)
    return port


def curl(client, *arguments):
    return client.run(["curl", "--silent", "--show-error", "--fail", *arguments])


def test_curl_downloads_big_file(web, client, work_dir, big_file, traffic):
    copy = work_dir / "copy"
    with traffic(big_file.length):
        curl(client, "--output", copy, servers.url(web, big_file.name))
    big_file.assert_equal(copy)


def test_wget_downloads_big_file(web, client, work_dir, big_file, traffic):
    copy = work_dir / "copy"
    with traffic(big_file.length):
        client.run(["wget", "--quiet", "--tries=1", "-O", copy, servers.url(web, big_file.name)])
    big_file.assert_equal(copy)


def test_wget_reuses_connection(web, client, work_dir, small_files, traffic):
    """Twenty files one after the other, which wget asks for on one connection."""
    copies = work_dir / "copies"
    urls = [servers.url(web, file.name) for file in small_files[:20]]
    with traffic(sum(file.length for file in small_files[:20])):
        client.run(["wget", "--quiet", "--tries=1", "-P", copies, *urls])
    for file in small_files[:20]:
        file.assert_equal(copies / file.name)


def test_curl_range_and_head(web, client, work_dir, big_file, traffic):
    """Short answers and a connection that the client closes early."""
    with traffic():
        head = curl(client, "--head", servers.url(web, big_file.name))
    assert f"content-length: {big_file.length}" in head.stdout.lower()
    part = client.run(["curl", "--silent", "--max-filesize", "1000",
                       "--output", work_dir / "part", servers.url(web, big_file.name)], status=63)
    assert part.returncode == 63, "curl gives up on a file over the limit"


def test_curl_parallel_transfers(server, client, work_dir, files_dir, small_files, free_port,
                                 traffic):
    """200 at once, which the rate limit keeps going; none has the connection of one that is done before."""
    port = free_port()
    servers.nginx(server, work_dir, port, files_dir)
    _fetch_in_parallel(client, work_dir, port, small_files, traffic, PARALLEL,
                       "--limit-rate", "40K", "--header", "Connection: close", connections=PARALLEL)


def test_curl_parallel_transfers_from_python(server, client, work_dir, files_dir, small_files,
                                             free_port, traffic):
    """A thread per connection, and a listen backlog of five."""
    port = free_port()
    servers.python_http(server, port, files_dir)
    _fetch_in_parallel(client, work_dir, port, small_files, traffic, 20)


def _fetch_in_parallel(client, work_dir, port, small_files, traffic, parallel, *options,
                       connections=1):
    copies = work_dir / "copies"
    copies.mkdir()
    with traffic(sum(file.length for file in small_files), connections):
        told = curl(client, "--parallel", "--parallel-max", str(parallel), "--parallel-immediate",
                    *options, "--write-out", "%{num_connects}\n",
                    "--output", f"{copies}/small-#1.bin",
                    servers.url(port, f"small-[1-{len(small_files)}].bin"))
    assert sum(map(int, told.stdout.split())) >= connections
    for file in small_files:
        file.assert_equal(copies / file.name)


def test_curl_processes_in_parallel(server, client, work_dir, files_dir, small_files, free_port,
                                    traffic):
    """200 transfers by a process each, sixteen at a time: guests come and go."""
    port = free_port()
    servers.nginx(server, work_dir, port, files_dir)
    copies = work_dir / "copies"
    copies.mkdir()
    numbers = work_dir / "numbers"
    numbers.write_text("\n".join(str(number + 1) for number in range(len(small_files))))
    with traffic(sum(file.length for file in small_files), connections=len(small_files)):
        client.run(["xargs", "--arg-file", numbers, "-P", "16", "-I", "{}",
                    "curl", "--silent", "--show-error", "--fail",
                    "--output", f"{copies}/small-{{}}.bin", servers.url(port, "small-{}.bin")])
    for file in small_files:
        file.assert_equal(copies / file.name)


def test_curl_uploads_big_file(server, client, work_dir, files_dir, big_file, free_port, traffic):
    port = free_port()
    servers.nginx(server, work_dir, port, files_dir)
    with traffic(big_file.length):
        curl(client, "--upload-file", big_file.path, servers.url(port, "upload/copy"))
    big_file.assert_equal(work_dir / "upload" / "copy")


def test_curl_limited_rate_stays_intact(server, client, work_dir, files_dir, big_file, free_port,
                                        traffic):
    """A slow reader: full buffers on the way, then the client ends in the middle."""
    port = free_port()
    servers.nginx(server, work_dir, port, files_dir)
    copy = work_dir / "copy"
    with traffic(1 << 20):
        program = client.start(["curl", "--silent", "--limit-rate", "8M", "--output", copy,
                                servers.url(port, big_file.name)])
        program.wait_until(lambda: copy.exists() and copy.stat().st_size >= 4 << 20, "4 MiB")
        program.stop()
    got = copy.read_bytes()
    assert got and big_file.path.read_bytes().startswith(got)


@pytest.mark.ipv6
def test_curl_nginx_ipv6(server, client, work_dir, files_dir, big_file, free_port, traffic):
    port = free_port()
    servers.nginx(server, work_dir, port, files_dir, host="::1")
    copy = work_dir / "copy"
    with traffic(big_file.length):
        curl(client, "--output", copy, servers.url(port, big_file.name, host="::1"))
    big_file.assert_equal(copy)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_curl_names_and_addresses(server, client, work_dir, files_dir, small_files, free_port,
                                  traffic, host):
    """A name is resolved (localhost), and both ends tell the addresses that they used."""
    port = free_port()
    servers.nginx(server, work_dir, port, files_dir, host=host)
    family = "--ipv6" if ":" in host else "--ipv4"
    with traffic(small_files[0].length):
        told = curl(client, family, "--write-out", "%{remote_ip} %{remote_port} %{local_ip}",
                    "--output", work_dir / "copy",
                    servers.url(port, small_files[0].name, host="localhost"))
    assert told.stdout == f"{host} {port} {host}"
    small_files[0].assert_equal(work_dir / "copy")


def test_connection_refused(client, server, free_port):
    """Nobody listens: curl's own exit status for a refused connection."""
    refused = client.run(["curl", "--silent", "--show-error", servers.url(free_port())], status=7)
    assert "onnect" in refused.stderr
