(* SPDX-License-Identifier: MIT *)
(* echo.ml serve|ask PORT: OCaml's Unix library: its channels on sockets, threads whose master lock each blocking call leaves, select. *)
let peers = 16 and length = 300_000
let at = Unix.ADDR_INET (Unix.inet_addr_loopback, int_of_string Sys.argv.(2))

let answer (peer, _) =
  let piece = Bytes.create 10_000 in
  let rec go () =
    match Unix.read peer piece 0 10_000 with
    | 0 -> Unix.close peer
    | n -> ignore (Unix.write peer piece 0 n); go () in
  go ()

let serve () =
  let s = Unix.socket Unix.PF_INET Unix.SOCK_STREAM 0 in
  Unix.setsockopt s Unix.SO_REUSEADDR true;
  Unix.bind s at;
  Unix.listen s 64;
  while true do ignore (Thread.create answer (Unix.accept s)) done

let ask number =
  let text = String.init length (fun n -> Char.chr ((n * 7919 + n / 251 + number) land 255)) in
  let from, into = Unix.open_connection at in
  let writer = Thread.create (fun () -> output_string into text; flush into; Unix.shutdown_connection from) () in
  let back = really_input_string from length in
  Thread.join writer;
  (match input_char from with _ -> exit 1 | exception End_of_file -> ());
  close_in from;
  if back <> text then exit 1

let () =
  if Sys.argv.(1) = "serve" then serve ();
  List.iter Thread.join (List.init peers (Thread.create ask));
  print_endline "all equal"
