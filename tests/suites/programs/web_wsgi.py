# SPDX-License-Identifier: MIT
"""A WSGI application that serves the files of $WEB_ROOT."""

import os


def application(environ, start_response):
    path = os.path.join(os.environ["WEB_ROOT"], os.path.basename(environ["PATH_INFO"]))
    file = open(path, "rb")
    start_response("200 OK", [("Content-Length", str(os.fstat(file.fileno()).st_size)),
                              ("Content-Type", "application/octet-stream")])
    wrapper = environ.get("wsgi.file_wrapper")
    return wrapper(file, 65536) if wrapper else iter(lambda: file.read(65536), b"")
