# SPDX-License-Identifier: MIT
# echo.pl serve|ask PORT: AnyEvent over EV (libev), whose epoll is level-triggered and remembers generations of descriptors.
use strict;
use warnings;
use EV;
use AnyEvent;
use AnyEvent::Handle;
use AnyEvent::Socket;

my ($end, $port) = @ARGV;
my ($peers, $done, %kept) = (16, AE::cv);
AnyEvent::detect() eq "AnyEvent::Impl::EV" or die "not EV\n";

sub answer {
	my ($fh) = @_;
	my $h; $h = AnyEvent::Handle->new(fh => $fh,
		on_read => sub { $_[0]->push_write(delete $_[0]{rbuf}) },
		on_eof => sub { $_[0]->on_drain(sub { $_[0]->destroy; undef $h }) },
		on_error => sub { $_[0]->destroy; undef $h });
	$kept{$h} = $h;
}

sub ask {
	my ($number) = @_;
	my $text = join "", map { pack "N", $_ * 2654435761 % 4294967291 + $number } 1 .. 75_000;
	tcp_connect "127.0.0.1", $port, sub {
		my ($fh) = @_ or die "connect: $!\n";
		my $h; $h = AnyEvent::Handle->new(fh => $fh, on_error => sub { die "$_[2]\n" });
		$h->push_write($text);
		$h->push_shutdown;
		$h->push_read(chunk => length $text, sub {
			$_[1] eq $text or die "different\n";
			undef $h;
			$done->send unless --$peers;
		});
	};
}

if ($end eq "serve") { tcp_server "127.0.0.1", $port, \&answer }
else { ask($_) for 1 .. 16 }
$done->recv;
print "all equal\n";
