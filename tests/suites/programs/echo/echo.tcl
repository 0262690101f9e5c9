# SPDX-License-Identifier: MIT
# echo.tcl serve|ask PORT: Tcl's channels, its fileevent and fcopy.
lassign $argv end port
set peers 16
set piece [string repeat "0123456789abcdef\n" 17650]

proc echo {peer host from} {
	fconfigure $peer -blocking 0 -translation binary -buffering none
	fcopy $peer $peer -command [list copied $peer]
}
proc copied {peer bytes {error ""}} { close $peer }

proc hear {number peer} {
	append ::back($number) [read $peer]
	if {[eof $peer]} {
		close $peer
		if {$::back($number) ne "$number $::piece"} { puts different; exit 1 }
		if {[incr ::peers -1] == 0} { set ::done 1 }
	}
}
proc connected {number peer} {
	fileevent $peer writable {}
	fileevent $peer readable [list hear $number $peer]
	puts -nonewline $peer "$number $::piece"
	flush $peer
	close $peer write
}

if {$end eq "serve"} {
	socket -server echo -myaddr 127.0.0.1 $port
} else {
	for {set n 0} {$n < 16} {incr n} {
		set peer [socket -async 127.0.0.1 $port]
		set back($n) ""
		fconfigure $peer -blocking 0 -translation binary
		fileevent $peer writable [list connected $n $peer]
	}
}
vwait done
puts "all equal"
