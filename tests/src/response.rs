//! The client's truth: a stream in, what the client got out. Own reading of HTTP/1, on purpose
//! independent of the agent's.
use std::io::{self, BufRead, ErrorKind, Read};

/// What a client got for one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The final status; none when no HTTP head came.
    pub status: Option<u16>,
    /// Whether the whole response came.
    pub complete: bool,
    /// Body bytes (without a head: all bytes).
    pub bytes: u64,
    /// The connection ended with a RST.
    pub reset: bool,
    /// Interim statuses before the final one.
    pub interim: Vec<u16>,
}

/// Reads one response; `to_head` says that it answers a HEAD request.
pub fn read(from: &mut impl BufRead, to_head: bool) -> io::Result<Answer> {
    let mut answer = Answer::default();
    match fill(from, to_head, &mut answer) {
        Ok(()) => Ok(answer),
        Err(error) => match error.kind() {
            ErrorKind::UnexpectedEof => Ok(answer),
            ErrorKind::ConnectionReset => Ok(Answer {
                reset: true,
                ..answer
            }),
            _ => Err(error),
        },
    }
}

fn fill(from: &mut impl BufRead, to_head: bool, answer: &mut Answer) -> io::Result<()> {
    loop {
        if !from.fill_buf()?.starts_with(b"HTTP/") {
            // Nothing at all, or bytes without a head.
            return count(from, u64::MAX, answer);
        }
        let head = head(from)?;
        if (100..200).contains(&head.status) && head.status != 101 {
            answer.interim.push(head.status);
            continue;
        }
        answer.status = Some(head.status);
        return body(from, &head, to_head, answer);
    }
}

struct Head {
    status: u16,
    length: Option<u64>,
    chunked: bool,
}

fn head(from: &mut impl BufRead) -> io::Result<Head> {
    let first = line(from)?;
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|word| word.trim().parse().ok());
    let mut head = Head {
        status: status.unwrap_or(0),
        length: None,
        chunked: false,
    };
    loop {
        let line = line(from)?.to_ascii_lowercase();
        match line.trim().split_once(':') {
            None => return Ok(head),
            Some(("content-length", value)) => head.length = value.trim().parse().ok(),
            Some(("transfer-encoding", _)) => head.chunked = true,
            Some(_) => {}
        }
    }
}

fn body(
    from: &mut impl BufRead,
    head: &Head,
    to_head: bool,
    answer: &mut Answer,
) -> io::Result<()> {
    if to_head || matches!(head.status, 101 | 204 | 304) {
        answer.complete = true;
        return Ok(());
    }
    if head.chunked {
        return chunks(from, answer);
    }
    count(from, head.length.unwrap_or(u64::MAX), answer)?;
    answer.complete = head.length.is_none_or(|length| length == answer.bytes);
    Ok(())
}

fn chunks(from: &mut impl BufRead, answer: &mut Answer) -> io::Result<()> {
    loop {
        let first = line(from)?;
        let digits = first.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| ErrorKind::InvalidData)?;
        let before = answer.bytes;
        count(from, size, answer)?;
        if answer.bytes - before < size {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        line(from)?;
        if size == 0 {
            answer.complete = true;
            return Ok(());
        }
    }
}

fn count(from: &mut impl BufRead, most: u64, answer: &mut Answer) -> io::Result<()> {
    let mut from = from.take(most);
    let mut bytes = [0; 16384];
    loop {
        match from.read(&mut bytes)? {
            0 => return Ok(()),
            got => answer.bytes += got as u64,
        }
    }
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    if line.ends_with('\n') {
        Ok(line)
    } else {
        Err(ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: &str) -> Answer {
        read(&mut bytes.as_bytes(), false).unwrap()
    }

    #[test]
    fn complete_and_cut_responses_are_told_apart() {
        assert!(answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").complete);
        assert!(!answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok").complete);
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
        assert!(!answer(chunked).complete);
        assert!(answer(&format!("{chunked}0\r\n\r\n")).complete);
        assert!(answer("HTTP/1.1 204 No\r\n\r\n").complete);
        assert_eq!(answer("").status, None);
        assert_eq!(answer("garbage").bytes, 7);
    }

    #[test]
    fn interim_answers_come_before_the_final_one() {
        let both = answer("HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!((both.status, both.interim), (Some(200), vec![103]));
    }
}
