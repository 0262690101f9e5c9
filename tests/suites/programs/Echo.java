// SPDX-License-Identifier: MIT
// An echo pair of java.nio and of java.net.
//
//   Echo server PORT                  one thread, one Selector
//   Echo client PORT COUNT LENGTH     COUNT connections of one Selector, LENGTH bytes to and fro on each
//   Echo blocking PORT COUNT LENGTH   COUNT threads with a java.net.Socket each
//   Echo calls PORT                   what close, interrupt and time-outs do to a blocked thread; both ends
import java.io.InputStream;
import java.io.OutputStream;
import java.net.ConnectException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketException;
import java.net.SocketTimeoutException;
import java.nio.ByteBuffer;
import java.nio.channels.AsynchronousCloseException;
import java.nio.channels.ClosedByInterruptException;
import java.nio.channels.DatagramChannel;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Echo {
    static final InetAddress HOST = InetAddress.getLoopbackAddress();

    static void need(boolean holds, String what) {
        if (!holds)
            throw new AssertionError(what);
    }

    static void serve(int port) throws Exception {
        Selector selector = Selector.open();
        ServerSocketChannel listener = ServerSocketChannel.open().bind(new InetSocketAddress(HOST, port), 1000);
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
        System.out.println("ready");
        for (;;) {
            selector.select(key -> {
                try {
                    if (key.isAcceptable())
                        accept(selector, listener);
                    else
                        echo(key);
                } catch (Exception error) {
                    error.printStackTrace();
                    System.exit(1);
                }
            });
        }
    }

    static void accept(Selector selector, ServerSocketChannel listener) throws Exception {
        for (SocketChannel one; (one = listener.accept()) != null;) {
            one.configureBlocking(false);
            one.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(65536));
        }
    }

    static void echo(SelectionKey key) throws Exception {
        SocketChannel one = (SocketChannel) key.channel();
        ByteBuffer buffer = (ByteBuffer) key.attachment();
        if (key.isReadable() && one.read(buffer) < 0) {
            one.close();
            return;
        }
        buffer.flip();
        one.write(buffer);
        key.interestOps(buffer.hasRemaining() ? SelectionKey.OP_WRITE : SelectionKey.OP_READ);
        buffer.compact();
    }

    static class Stream {
        final int seed;
        long sent, got;

        Stream(int seed) {
            this.seed = seed;
        }

        byte at(long position) {
            return (byte) (position * 31 + position / 251 + seed);
        }
    }

    static void client(int port, int count, long length) throws Exception {
        Selector selector = Selector.open();
        ByteBuffer buffer = ByteBuffer.allocateDirect(32768);
        for (int i = 0; i < count; i++) {
            SocketChannel one = SocketChannel.open();
            one.configureBlocking(false);
            one.connect(new InetSocketAddress(HOST, port));
            one.register(selector, SelectionKey.OP_CONNECT, new Stream(i));
        }
        while (!selector.keys().isEmpty()) {
            need(selector.select(20000) > 0, "nothing for 20 s");
            for (SelectionKey key : selector.selectedKeys())
                step(key, buffer, length);
            selector.selectedKeys().clear();
            selector.selectNow(); // forgets those that were closed
            selector.selectedKeys().clear();
        }
    }

    static void step(SelectionKey key, ByteBuffer buffer, long length) throws Exception {
        SocketChannel one = (SocketChannel) key.channel();
        Stream stream = (Stream) key.attachment();
        if (key.isConnectable()) {
            need(one.finishConnect(), "connected");
            key.interestOps(SelectionKey.OP_READ | SelectionKey.OP_WRITE);
            return;
        }
        if (key.isReadable()) {
            buffer.clear();
            need(one.read(buffer) > 0, "bytes");
            for (buffer.flip(); buffer.hasRemaining(); stream.got++)
                need(buffer.get() == stream.at(stream.got), "byte " + stream.got);
        }
        if (stream.sent < length && key.isWritable()) {
            buffer.clear().limit((int) Math.min(buffer.capacity(), length - stream.sent));
            for (long at = stream.sent; buffer.hasRemaining(); at++)
                buffer.put(stream.at(at));
            buffer.flip();
            stream.sent += one.write(buffer);
        }
        if (stream.got == length)
            one.close();
        else
            key.interestOps(stream.sent < length ? SelectionKey.OP_READ | SelectionKey.OP_WRITE
                                                 : SelectionKey.OP_READ);
    }

    static void blocking(int port, int count, int length) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(count);
        List<Future<Void>> all = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            Stream stream = new Stream(i);
            all.add(threads.submit((Callable<Void>) () -> {
                try (Socket one = new Socket(HOST, port)) {
                    one.setSoTimeout(100000);
                    byte[] data = new byte[4096];
                    while (stream.got < length) {
                        for (int at = 0; at < data.length; at++)
                            data[at] = stream.at(stream.got + at);
                        one.getOutputStream().write(data);
                        byte[] back = one.getInputStream().readNBytes(data.length);
                        need(java.util.Arrays.equals(data, back), "equal");
                        stream.got += data.length;
                    }
                }
                return null;
            }));
        }
        for (Future<Void> one : all)
            one.get();
        threads.shutdown();
    }

    /** What a blocked thread meets when @act is done meanwhile. */
    static Throwable meets(Callable<?> blocked, Callable<?> act) throws Exception {
        Throwable[] met = new Throwable[1];
        Thread thread = new Thread(() -> {
            try {
                blocked.call();
            } catch (Throwable error) {
                met[0] = error;
            }
        });
        thread.start();
        while (thread.getState() == Thread.State.NEW)
            Thread.onSpinWait();
        Thread.sleep(50); // so that it blocks; where it does not yet, the outcome is the same
        if (act == null)
            thread.interrupt();
        else
            act.call();
        thread.join(100000);
        need(!thread.isAlive(), "still blocked");
        return met[0];
    }

    static void calls(int port) throws Exception {
        ServerSocket listener = new ServerSocket(port, 50, HOST);
        Socket near = new Socket(HOST, port), far = listener.accept();
        need(meets(() -> near.getInputStream().read(), () -> { near.close(); return 0; })
                 instanceof SocketException, "close ends a read");
        need(far.getInputStream().read() == -1, "the other end sees it");
        need(meets(listener::accept, () -> { listener.close(); return 0; })
                 instanceof SocketException, "close ends an accept");
        try {
            new Socket(HOST, port);
            need(false, "refused");
        } catch (ConnectException error) {
            // as it should
        }
        ServerSocketChannel channel = ServerSocketChannel.open().bind(new InetSocketAddress(HOST, port));
        SocketChannel one = SocketChannel.open(new InetSocketAddress(HOST, port)), two = channel.accept();
        need(meets(() -> one.read(ByteBuffer.allocate(1)), null)
                 instanceof ClosedByInterruptException, "interrupt ends a read");
        need(two.read(ByteBuffer.allocate(1)) == -1, "and closes the channel");
        need(meets(channel::accept, () -> { channel.close(); return 0; })
                 instanceof AsynchronousCloseException, "close ends a channel's accept");
        timeouts(port);
        datagrams(port);
        wakeup();
    }

    static void timeouts(int port) throws Exception {
        try (ServerSocket listener = new ServerSocket(port, 50, HOST)) {
            listener.setSoTimeout(50);
            try {
                listener.accept();
                need(false, "time-out of accept");
            } catch (SocketTimeoutException error) {
                listener.setSoTimeout(100000);
            }
            try (Socket near = new Socket(HOST, port); Socket far = listener.accept()) {
                near.setSoTimeout(50);
                InputStream in = near.getInputStream();
                try {
                    in.read();
                    need(false, "time-out of read");
                } catch (SocketTimeoutException error) {
                    near.setSoTimeout(100000);
                    OutputStream out = far.getOutputStream();
                    out.write(7);
                    need(in.read() == 7, "a byte after the time-out");
                }
                near.shutdownOutput();
                need(far.getInputStream().read() == -1, "half-close");
                far.getOutputStream().write(8);
                need(in.read() == 8, "a byte the other way");
            }
        }
    }

    static void datagrams(int port) throws Exception {
        try (DatagramChannel one = DatagramChannel.open(); DatagramChannel two = DatagramChannel.open()) {
            two.bind(new InetSocketAddress(HOST, port));
            one.connect(two.getLocalAddress());
            for (int i = 0; i < 100; i++) {
                one.write(ByteBuffer.wrap(new byte[] { (byte) i }));
                ByteBuffer data = ByteBuffer.allocate(10);
                java.net.SocketAddress from = two.receive(data);
                two.send(data.flip(), from);
                need(one.read(data.clear()) == 1 && data.get(0) == (byte) i, "an echo");
            }
        }
    }

    static void wakeup() throws Exception {
        Selector selector = Selector.open();
        need(meets(() -> selector.select(20000), () -> selector.wakeup()) == null, "wakeup");
        selector.close();
    }

    public static void main(String[] args) throws Exception {
        int port = Integer.parseInt(args[1]);
        switch (args[0]) {
        case "server": serve(port); break;
        case "client": client(port, Integer.parseInt(args[2]), Long.parseLong(args[3])); break;
        case "blocking": blocking(port, Integer.parseInt(args[2]), Integer.parseInt(args[3])); break;
        case "calls": calls(port); break;
        default: throw new IllegalArgumentException(args[0]);
        }
        System.out.println("all equal");
    }
}
