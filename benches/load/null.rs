//! The null broker: reads frames, answers Produce as if all had gone well, keeps nothing.

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Serves until the process is ended.
#[expect(clippy::infinite_loop, reason = "serves until the process is ended")]
pub(crate) async fn run(listen: &str) {
    let listener = TcpListener::bind(listen).await.unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        drop(tokio::spawn(serve(stream)));
    }
}

async fn serve(mut stream: TcpStream) {
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    loop {
        input.reserve(256 * 1024);
        match stream.read_buf(&mut input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        while input.len() >= 4 {
            let length = i32::from_be_bytes(input[..4].try_into().unwrap()) as usize;
            if input.len() < 4 + length {
                break;
            }
            input.advance(4);
            answer(&input[..length], &mut output);
            input.advance(length);
        }
        if stream.write_all(&output).await.is_err() {
            return;
        }
        output.clear();
    }
}

/// Answers Produce v7 of one partition; CreateTopics v4 of one topic.
fn answer(request: &[u8], out: &mut BytesMut) {
    let key = i16::from_be_bytes([request[0], request[1]]);
    let client = i16::from_be_bytes([request[8], request[9]]) as usize;
    let body = &request[10 + client..];
    let start = out.len();
    out.put_i32(0);
    out.put_slice(&request[4..8]);
    if key == 0 {
        let name_end = 14 + i16::from_be_bytes([body[12], body[13]]) as usize;
        out.put_i32(1);
        out.put_slice(&body[12..name_end]);
        out.put_i32(1);
        out.put_slice(&body[name_end + 4..name_end + 8]);
        out.put_i16(0);
        out.put_i64(0);
        out.put_i64(-1);
        out.put_i64(0);
        out.put_i32(0);
    } else {
        let name_end = 6 + i16::from_be_bytes([body[4], body[5]]) as usize;
        out.put_i32(0);
        out.put_i32(1);
        out.put_slice(&body[4..name_end]);
        out.put_i16(0);
        out.put_i16(-1);
    }
    let length = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
