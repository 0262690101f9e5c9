# SPDX-License-Identifier: MIT
"""web_python.py FRAMEWORK PORT ROOT: serves the files of a directory by an event loop of others."""

import asyncio
import os
import sys


def aiohttp(port, root):
    from aiohttp import web
    app = web.Application()
    app.router.add_static("/", root)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


def tornado(port, root):
    import tornado.web

    async def main():
        tornado.web.Application([("/(.*)", tornado.web.StaticFileHandler, {"path": root})]).listen(port, "127.0.0.1")
        await asyncio.Event().wait()
    asyncio.run(main())


def twisted(port, root):
    from twisted.internet import reactor
    from twisted.web import server, static
    reactor.listenTCP(port, server.Site(static.File(root)), interface="127.0.0.1")
    reactor.run()


def gevent(port, root):
    from gevent import monkey, pywsgi
    monkey.patch_all()
    os.environ["WEB_ROOT"] = root
    from web_wsgi import application
    pywsgi.WSGIServer(("127.0.0.1", port), application, log=None).serve_forever()


framework = sys.argv[1]
sys.path[0:1] = [os.path.dirname(os.path.abspath(__file__))]
globals()[framework](int(sys.argv[2]), sys.argv[3])
