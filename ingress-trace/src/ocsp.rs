//! In: a request's path. Out: whether it asks an authority about a certificate (OCSP over GET, RFC
//! 6960 appendix A), as nginx does for its own. Pure.

/// The lengths and types in front of a request's first certificate: `OCSPRequest`, `TBSRequest`,
/// list, `Request`, `CertID`, `AlgorithmIdentifier`, all of them sequences (X.690).
const NESTED: usize = 6;
const SEQUENCE: u8 = 0x30;

/// Whether the path ends with such a request.
pub fn asks(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    // What begins with a short sequence begins with M in base64.
    last.starts_with('M') && decoded(last, 2 * NESTED).is_some_and(|bytes| nested(&bytes))
}

/// Whether these are sequences within each other, each shorter than the one around it.
fn nested(bytes: &[u8]) -> bool {
    let heads: Vec<&[u8]> = bytes.chunks_exact(2).collect();
    let sequences = heads
        .iter()
        .all(|head| head[0] == SEQUENCE && head[1] < 0x80);
    sequences && heads.windows(2).all(|pair| pair[1][1] + 2 <= pair[0][1])
}

/// The first bytes of what is base64 with percent signs; `None` when it is not, or shorter.
fn decoded(text: &str, count: usize) -> Option<Vec<u8>> {
    let text = text.replace("%2B", "+").replace("%2F", "/");
    let mut bytes = Vec::new();
    for group in text.as_bytes().chunks_exact(4) {
        let mut word = 0u32;
        for letter in group {
            word = word << 6 | u32::from(value(*letter)?);
        }
        bytes.extend(&word.to_be_bytes()[1..]);
        if bytes.len() >= count {
            bytes.truncate(count);
            return Some(bytes);
        }
    }
    None
}

fn value(letter: u8) -> Option<u8> {
    Some(match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_questions_about_certificates_are_ones() {
        let question = "MFUwUzBRME8wTTAJBgUrDgMCGgUABBRS2nq4mZzs8BvOXAT04Ygo3CF5dQQUr6CGL6ye1d8cQ";
        for path in [format!("/ocsp/{question}%2FLYNj"), format!("/{question}")] {
            assert!(asks(&path), "{path}");
        }
        let others = [
            "/",
            "/cart",
            "/MFUw",
            "/Market/of/things/MoreThanSixteenLetters",
            "/ocsp/MFUwUzBRME8wTTAJBgUr/next",
            // The same depth, but not within each other.
            "/MFUwVTBVMFUwVTBVBgUrDgMCGgUABBRS2nq4",
        ];
        for path in others {
            assert!(!asks(path), "{path}");
        }
    }
}
