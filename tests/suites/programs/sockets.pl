#!/usr/bin/perl
# SPDX-License-Identifier: MIT
# IO::Socket and its kin as programs use them; prints TAP. Both ends are here, in this process or in forked ones.
use strict;
use warnings;
use Errno qw(EADDRINUSE ECONNREFUSED EINPROGRESS EWOULDBLOCK EPIPE);
use Fcntl;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::IP;
use Socket qw(:all);
use Test::More;

my $LOOPBACK = '127.0.0.1';

sub listener {
    my ($class, @more) = @_;
    return $class->new(LocalAddr => $LOOPBACK, Proto => 'tcp', Listen => 100, ReuseAddr => 1, @more) // die "listen: $@";
}

sub pair {
    my ($class) = @_;
    my $listener = listener($class);
    my $near = $class->new(PeerAddr => $LOOPBACK, PeerPort => $listener->sockport, Proto => 'tcp') // die $@;
    return ($near, scalar $listener->accept, $listener);
}

# A child runs the code, and its exit status is told.
sub child(&) {
    my ($code) = @_;
    my $pid = fork // die "fork: $!";
    return $pid if $pid;
    $code->();
    exec '/bin/true';    # END blocks of the test are the parent's
}

for my $class (qw(IO::Socket::INET IO::Socket::IP)) {
    subtest "$class: lines and blocks" => sub {
        my ($near, $far, $listener) = pair($class);
        is($near->peerport, $listener->sockport, 'port of the peer');
        is($far->peerhost, $LOOPBACK, 'address of the peer');
        is($near->sockport, $far->peerport, 'both agree');
        $near->autoflush(1);
        print $near "line $_\n" for 1 .. 100;
        is(scalar <$far>, "line $_\n", "line $_") for 1 .. 100;
        my $block = join '', map { chr($_ % 251) } 1 .. 300_000;
        my $pid = child { syswrite_all($far, $block) };
        my $got = '';
        1 while length $got < length $block and sysread $near, $got, 65536, length $got;
        ok($got eq $block, '300,000 bytes from a child');
        waitpid $pid, 0;
        shutdown $near, 1;
        is(sysread($far, my $rest, 10), 0, 'end of file');
        ok($far->close && $near->close, 'close');
    };

    subtest "$class: options" => sub {
        my ($near, $far) = pair($class);
        ok($near->sockopt(SO_KEEPALIVE, 1), 'SO_KEEPALIVE');
        ok($near->sockopt(SO_KEEPALIVE), 'is set');
        ok($near->setsockopt(IPPROTO_TCP, TCP_NODELAY, 1), 'TCP_NODELAY');
        ok(unpack('i', getsockopt $near, IPPROTO_TCP, TCP_NODELAY), 'is set');
        is($near->socktype, SOCK_STREAM, 'type');
        is($near->sockdomain, AF_INET, 'domain');
        is($near->protocol, IPPROTO_TCP, 'protocol');
        ok($near->connected, 'connected');
        ok($near->blocking, 'blocking');
        is(defined $near->blocking(0), 1, 'not any more');
        ok(!defined $near->sysread(my $data, 1) && $!{EWOULDBLOCK}, 'EWOULDBLOCK');
        is($near->send('x'), 1, 'send');
        is($near->sockopt(SO_ERROR), 0, 'no error');
    };

    subtest "$class: errors" => sub {
        my $listener = listener($class);
        my $port = $listener->sockport;
        my $second = $class->new(LocalAddr => $LOOPBACK, LocalPort => $port, Proto => 'tcp', Listen => 1);
        ok(!$second && $!{EADDRINUSE}, 'address in use');
        close $listener;
        my $refused = $class->new(PeerAddr => $LOOPBACK, PeerPort => $port, Proto => 'tcp');
        ok(!$refused && $!{ECONNREFUSED}, 'refused');
        my ($near, $far) = pair($class);
        setsockopt $far, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
        close $far;
        ok(!defined sysread($near, my $data, 1), 'reset');
        local $SIG{PIPE} = sub { $data = 'SIGPIPE' };
        ok(!defined syswrite($near, 'x') && $!{EPIPE}, 'EPIPE');
        is($data, 'SIGPIPE', 'signal');
    };

    subtest "$class: time-out" => sub {
        my $listener = listener($class, Timeout => 0.05);
        ok(!defined $listener->accept, 'of accept');
        $listener->timeout(100);
        my $near = $class->new(PeerAddr => $LOOPBACK, PeerPort => $listener->sockport, Proto => 'tcp', Timeout => 100);
        ok($near, 'connect within the time');
        ok($listener->accept, 'accept within the time');
    };

    subtest "$class: connect that does not wait" => sub {
        my $listener = listener($class);
        my $near = $class->new(PeerAddr => $LOOPBACK, PeerPort => $listener->sockport, Proto => 'tcp', Blocking => 0);
        ok($near, 'socket');
        ok(scalar IO::Select->new($near)->can_write(100), 'writable');
        is($near->sockopt(SO_ERROR), 0, 'connected');
        ok($listener->accept, 'accepted');
    };

    subtest "$class: datagrams" => sub {
        my $one = $class->new(LocalAddr => $LOOPBACK, Proto => 'udp', Type => SOCK_DGRAM) // die $@;
        my $two = $class->new(PeerAddr => $LOOPBACK, PeerPort => $one->sockport, Proto => 'udp', Type => SOCK_DGRAM)
            // die $@;
        for my $number (1 .. 50) {
            is($two->send("datagram $number"), length "datagram $number", 'send');
            $one->recv(my $data, 100);
            is($data, "datagram $number", 'recv');
            is($one->peerport, $two->sockport, 'from whom');
            $one->send("back $number");
            $two->recv($data, 100);
            is($data, "back $number", 'and back');
        }
    };
}

sub syswrite_all {
    my ($socket, $data) = @_;
    my $at = 0;
    while ($at < length $data) {
        $at += syswrite($socket, $data, 65536, $at) // die "write: $!";
    }
}

subtest 'select over many' => sub {
    my $listener = listener('IO::Socket::IP');
    my @near = map { IO::Socket::IP->new(PeerAddr => $LOOPBACK, PeerPort => $listener->sockport) // die $@ } 1 .. 60;
    my @far = map { scalar $listener->accept } @near;
    my $all = IO::Select->new(@far, $listener);
    is(scalar(my @none = $all->can_read(0)), 0, 'nothing yet');
    syswrite $near[$_], "$_" for 0, 17, 59;
    my %found;
    while (keys %found < 3) {
        $found{$_->peerport} = sysread $_, my $data, 10 for $all->can_read(100);
    }
    is_deeply([sort keys %found], [sort map { $near[$_]->sockport } 0, 17, 59], 'those three');
    is(scalar(my @writable = IO::Select->new(@near)->can_write(0)), 60, 'all writable');
    close $near[5];
    is(($all->can_read(100))[0]->peerport, ($all->can_read(100))[0]->peerport, 'an end is readable');
};

subtest 'a forking server' => sub {
    my $listener = listener('IO::Socket::INET');
    my $server = child {
        local $SIG{CHLD} = 'IGNORE';
        for (1 .. 20) {
            my $one = $listener->accept // die "accept: $!";
            child { while (my $line = <$one>) { $one->print(scalar reverse $line) } };
            close $one;
        }
    };
    my @clients = map { IO::Socket::INET->new(PeerAddr => $LOOPBACK, PeerPort => $listener->sockport) // die $@ } 1 .. 20;
    for my $number (0 .. $#clients) {
        $clients[$number]->print("abc$number\n");
        $clients[$number]->shutdown(1);
        local $/;
        is(readline $clients[$number], scalar reverse("abc$number\n"), "client $number");
    }
    waitpid $server, 0;
    is($?, 0, 'server');
};

subtest 'alarm' => sub {
    my ($near, $far) = pair('IO::Socket::INET');
    my $told = eval {
        local $SIG{ALRM} = sub { die "alarm\n" };
        alarm 1;
        sysread $near, my $data, 1;
        0;
    };
    is($@, "alarm\n", 'ends a read');
    syswrite $far, 'x';
    is(sysread($near, my $data, 10), 1, 'the connection goes on');
};

subtest 'perl functions' => sub {
    socket(my $listener, PF_INET6, SOCK_STREAM, 0) or die "socket: $!";
    bind($listener, pack_sockaddr_in6(0, IN6ADDR_LOOPBACK)) or die "bind: $!";
    listen($listener, 5) or die "listen: $!";
    socket(my $near, PF_INET6, SOCK_STREAM, 0) or die;
    ok(connect($near, getsockname $listener), 'connect');
    my $name = accept(my $far, $listener);
    is($name, getsockname $near, 'accept gives the peer');
    is(getpeername $near, getsockname $listener, 'getpeername');
    ok(send($far, 'hello', 0), 'send');
    ok(defined recv($near, my $data, 2, MSG_PEEK), 'peek');
    ok(defined recv($near, $data, 100, 0), 'recv');
    is($data, 'hello', 'all of it');
    open my $copy, '+<&', $near or die "dup: $!";
    close $near;
    syswrite $copy, 'by the copy';
    sysread $far, $data, 100;
    is($data, 'by the copy', 'dup');
    my $flags = fcntl $copy, F_GETFL, 0;
    ok(!($flags & O_NONBLOCK), 'flags');
};

subtest 'names' => sub {
    my ($error, @found) = getaddrinfo('localhost', '80', { socktype => SOCK_STREAM });
    is($error, '', 'getaddrinfo');
    ok((grep { $_->{family} == AF_INET } @found), 'IPv4');
    is((getnameinfo $found[0]{addr}, NI_NUMERICHOST | NI_NUMERICSERV)[2], 80, 'getnameinfo');
    is(inet_ntoa(scalar gethostbyname 'localhost'), $LOOPBACK, 'gethostbyname');
};

done_testing;
