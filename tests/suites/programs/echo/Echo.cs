// SPDX-License-Identifier: MIT
// Echo.cs serve|ask PORT: Mono's sockets, whose asynchronous calls are its own epoll and threads.
using System;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Threading.Tasks;

class Echo {
	const int Peers = 16, Length = 300000;

	static async Task Answer(TcpClient peer) {
		using (peer) {
			var stream = peer.GetStream();
			await stream.CopyToAsync(stream, 10000);
		}
	}

	static async Task Serve(int port) {
		var listener = new TcpListener(IPAddress.Loopback, port);
		listener.Start(64);
		for (;;) {
			var ignored = Answer(await listener.AcceptTcpClientAsync());
		}
	}

	static async Task<bool> Ask(int port, int number) {
		var text = new byte[Length];
		new Random(number).NextBytes(text);
		using (var peer = new TcpClient()) {
			await peer.ConnectAsync(IPAddress.Loopback, port);
			var stream = peer.GetStream();
			var back = new MemoryStream();
			var reading = stream.CopyToAsync(back);
			for (int at = 0; at < Length; at += 9999)
				await stream.WriteAsync(text, at, Math.Min(9999, Length - at));
			peer.Client.Shutdown(SocketShutdown.Send);
			await reading;
			return back.ToArray().SequenceEqual(text);
		}
	}

	static int Main(string[] args) {
		int port = int.Parse(args[1]);
		if (args[0] == "serve")
			Serve(port).Wait();
		var all = Task.WhenAll(Enumerable.Range(0, Peers).Select(n => Ask(port, n))).Result;
		Console.WriteLine(all.All(equal => equal) ? "all equal" : "different");
		return 0;
	}
}
