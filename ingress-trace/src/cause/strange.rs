//! In: what came where a response (or a TLS handshake's answer) should have. Out: that in words. Pure.
use super::taxonomy::Protocol;
use crate::event::Strange;

/// What a leg of this protocol met.
pub fn meets(protocol: Option<Protocol>, strange: Strange) -> String {
    match (protocol, strange) {
        (Some(Protocol::Tls), Strange::Tls(Some(number))) => format!(
            "the backend refused the TLS handshake: alert {number} ({})",
            alert(number)
        ),
        (Some(Protocol::Tls), Strange::Http1) => {
            "the backend answered the TLS handshake with HTTP in plaintext".to_owned()
        }
        (Some(Protocol::Tls), _) => "the response does not begin with a TLS record".to_owned(),
        (_, Strange::Tls(_)) => {
            "the backend answered with TLS: it was asked in plaintext on a port that speaks TLS"
                .to_owned()
        }
        (Some(Protocol::Http2), Strange::Http1) => {
            "the backend answered HTTP/2 with HTTP/1".to_owned()
        }
        (Some(Protocol::Http2), _) => "the response does not begin with an HTTP/2 frame".to_owned(),
        _ => "the response does not begin with an HTTP status line".to_owned(),
    }
}

/// Names of alerts (RFC 8446 section 6.2).
fn alert(number: u8) -> &'static str {
    match number {
        10 => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => "not a known one",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_and_plaintext_that_meet_are_named() {
        let tls = Some(Protocol::Tls);
        assert!(meets(tls, Strange::Tls(Some(116))).contains("alert 116 (certificate_required)"));
        assert!(meets(tls, Strange::Http1).contains("plaintext"));
        let plain = Some(Protocol::Http1);
        assert!(meets(plain, Strange::Tls(None)).contains("speaks TLS"));
        assert!(meets(plain, Strange::Unknown).contains("status line"));
        let http2 = Some(Protocol::Http2);
        assert!(meets(http2, Strange::Http1).contains("HTTP/1"));
        assert!(meets(http2, Strange::Tls(None)).contains("speaks TLS"));
    }
}
