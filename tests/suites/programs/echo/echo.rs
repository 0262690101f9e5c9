// SPDX-License-Identifier: MIT
// echo.rs serve|ask PORT: Rust's standard library: threads, io::copy (which tries splice), try_clone, time-outs.
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;
use std::{env, thread};

fn answer(mut peer: TcpStream) -> io::Result<()> {
    let mut back = peer.try_clone()?;
    io::copy(&mut peer, &mut back)?;
    back.shutdown(Shutdown::Write)
}

fn ask(at: String, number: u32) -> io::Result<()> {
    let text: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(2654435761) >> 13) as u8 ^ number as u8).collect();
    let mut peer = TcpStream::connect(&at)?;
    peer.set_nodelay(true)?;
    peer.set_read_timeout(Some(Duration::from_secs(120)))?;
    let (mut writer, copy) = (peer.try_clone()?, text.clone());
    let written = thread::spawn(move || {
        for piece in copy.chunks(7919) {
            writer.write_all(piece).unwrap();
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    peer.read_to_end(&mut back)?;
    written.join().unwrap();
    assert!(back == text);
    Ok(())
}

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().collect();
    let at = format!("127.0.0.1:{}", args[2]);
    if args[1] == "serve" {
        for peer in TcpListener::bind(&at)?.incoming() {
            let peer = peer?;
            thread::spawn(move || answer(peer).unwrap());
        }
    }
    let threads: Vec<_> = (0..16).map(|n| { let at = at.clone(); thread::spawn(move || ask(at, n).unwrap()) }).collect();
    for one in threads {
        one.join().unwrap();
    }
    println!("all equal");
    Ok(())
}
