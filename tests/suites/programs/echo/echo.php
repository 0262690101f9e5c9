<?php
// SPDX-License-Identifier: MIT
// echo.php serve|ask PORT: PHP's extension "sockets", which is loaded with RTLD_DEEPBIND, and socket_select().
const LENGTH = 300_000, PEERS = 16;
[, $end, $port] = $argv;

function peer($socket) {
    socket_set_nonblock($socket);
    return ["socket" => $socket, "out" => "", "back" => "", "text" => ""];
}

function write(&$peer) {
    $sent = @socket_write($peer["socket"], $peer["out"]);
    if ($sent !== false)
        $peer["out"] = substr($peer["out"], $sent);
}

function turn(&$peers, $listener) {
    $read = array_column($peers, "socket");
    $write = array_column(array_filter($peers, fn($peer) => $peer["out"] !== ""), "socket");
    if ($listener)
        $read[] = $listener;
    $none = null;
    socket_select($read, $write, $none, null);
    if ($listener && in_array($listener, $read, true))
        $peers[] = peer(socket_accept($listener));
    foreach ($peers as $number => &$peer) {
        if (in_array($peer["socket"], $write, true))
            write($peer);
        if (!in_array($peer["socket"], $read, true))
            continue;
        $piece = socket_read($peer["socket"], 65536);
        if ($listener)
            $peer["out"] .= $piece;
        else
            $peer["back"] .= $piece;
        if ($piece === "" || $piece === false || (!$listener && strlen($peer["back"]) == LENGTH)) {
            if ($peer["back"] !== $peer["text"])
                exit("different\n");
            socket_close($peer["socket"]);
            unset($peers[$number]);
        }
    }
}

$peers = [];
if ($end === "serve") {
    $listener = socket_create(AF_INET, SOCK_STREAM, SOL_TCP);
    socket_set_option($listener, SOL_SOCKET, SO_REUSEADDR, 1);
    socket_bind($listener, "127.0.0.1", $port);
    socket_listen($listener, PEERS);
    while (true)
        turn($peers, $listener);
}
for ($number = 0; $number < PEERS; $number++) {
    $socket = socket_create(AF_INET, SOCK_STREAM, SOL_TCP);
    socket_connect($socket, "127.0.0.1", $port);
    $peers[] = peer($socket);
    $peers[$number]["out"] = $peers[$number]["text"] = random_bytes(LENGTH);
}
while ($peers)
    turn($peers, null);
echo "all equal\n";
