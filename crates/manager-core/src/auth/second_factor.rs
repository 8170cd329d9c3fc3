//! Second factors: codes from an app on a phone (TOTP, RFC 6238), and the recovery codes for the
//! day the phone is lost.

use chrono::Utc;
use sha2::{Digest, Sha256};
use shared::name::Username;
use sqlx::postgres::PgConnection;
use totp_rs::{Builder, Secret, Totp, TotpError};

use super::sessions::NoEntropy;
use crate::audit::hex_text;
use crate::store;
use crate::store::second_factors::SECRET_BYTES;
use crate::store::users::User;

const ISSUER: &str = "PiCloud";
/// As many as people print on one card.
const RECOVERY_CODES: usize = 10;
/// 80 bits: too many to guess even for who has the hashes.
const RECOVERY_BYTES: usize = 10;

/// A secret for a phone, shown once.
pub(crate) struct Enrolment {
    pub(crate) secret: [u8; SECRET_BYTES],
    /// To be typed where a picture cannot be taken.
    pub(crate) text: String,
    /// What a QR code shows.
    pub(crate) url: String,
}

/// Why no enrolment could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    #[error("the enrolment could not be made: {0}")]
    Totp(TotpError),
}

/// What came of asking for a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    /// Right, or not asked for.
    Fine,
    Missing,
    Wrong,
}

pub(crate) fn enrol(username: &Username) -> Result<Enrolment, EnrolError> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(NoEntropy)?;
    let totp = totp(secret, username).map_err(EnrolError::Totp)?;
    let url = totp.to_url().map_err(EnrolError::Totp)?;
    Ok(Enrolment { secret, text: totp.secret().to_base32(), url })
}

/// The time step of which this is the code, now or one step beside, for clocks that are off.
pub(crate) fn step_of(secret: [u8; SECRET_BYTES], username: &Username, code: &str) -> Option<i64> {
    let now = u64::try_from(Utc::now().timestamp()).ok()?;
    let step = totp(secret, username).ok()?.check(code.trim(), now)?;
    i64::try_from(step).ok()
}

/// New recovery codes, each with what is stored of it.
pub(crate) fn recovery_codes() -> Result<Vec<(String, [u8; 32])>, NoEntropy> {
    let mut secret = [0; RECOVERY_CODES * RECOVERY_BYTES];
    getrandom::fill(&mut secret).map_err(NoEntropy)?;
    let codes = secret.chunks_exact(RECOVERY_BYTES).map(hex_text);
    Ok(codes.map(|code| (grouped(&code), Sha256::digest(code).into())).collect())
}

/// Asks for the second factor of a person who has one. A code that was right is used up when the
/// transaction commits.
pub(super) async fn ask(conn: &mut PgConnection, user: &User, code: Option<&str>) -> sqlx::Result<Second> {
    let Some(factor) = store::second_factors::confirmed(conn, user.id).await? else {
        return Ok(Second::Fine);
    };
    let Some(code) = code else { return Ok(Second::Missing) };
    if let Some(step) = step_of(factor.secret, &user.username, code).filter(|step| *step > factor.last_step) {
        store::second_factors::use_step(conn, user.id, step).await?;
        return Ok(Second::Fine);
    }
    let is_known = store::second_factors::use_recovery_code(conn, user.id, recovery_hash(code)).await?;
    Ok(if is_known { Second::Fine } else { Second::Wrong })
}

fn totp(secret: [u8; SECRET_BYTES], username: &Username) -> Result<Totp, TotpError> {
    Builder::new()
        .with_secret(Secret::new_stack(secret))
        .with_issuer(Some(ISSUER))
        .with_account_name(username.as_str())
        .build()
}

/// `0123456789abcdef0123` as `01234-56789-abcde-f0123`, which is easier to copy from paper.
fn grouped(code: &str) -> String {
    let groups: Vec<_> = code.as_bytes().chunks(5).map(String::from_utf8_lossy).collect();
    groups.join("-")
}

/// However it was copied: with capitals, spaces, or without dashes.
fn recovery_hash(code: &str) -> [u8; 32] {
    let digits: String = code.chars().filter(char::is_ascii_hexdigit).collect();
    Sha256::digest(digits.to_ascii_lowercase()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enrolment_is_what_phones_read() {
        let name: Username = "ada@example.org".parse().unwrap();
        let Enrolment { url, text, .. } = enrol(&name).unwrap();
        assert!(url.starts_with("otpauth://totp/PiCloud:ada%40example.org?"), "{url}");
        assert!(url.contains(&format!("secret={text}")) && url.contains("issuer=PiCloud"), "{url}");
        assert_eq!(text.len(), 32);
    }

    #[test]
    fn the_code_of_this_moment_is_taken_and_another_secrets_is_not() {
        let name: Username = "ada".parse().unwrap();
        let now = u64::try_from(Utc::now().timestamp()).unwrap();
        let code = totp([7; SECRET_BYTES], &name).unwrap().generate(now).to_string();
        assert!(step_of([7; SECRET_BYTES], &name, &format!(" {code} ")).is_some());
        assert_eq!(step_of([8; SECRET_BYTES], &name, &code), None);
        for text in ["", "12345", "abcdef", "1234567", "١٢٣٤٥٦"] {
            assert_eq!(step_of([7; SECRET_BYTES], &name, text), None, "{text}");
        }
    }

    #[test]
    fn a_recovery_code_is_known_however_it_was_copied() {
        let codes = recovery_codes().unwrap();
        assert_eq!(codes.len(), RECOVERY_CODES);
        for (code, hash) in codes {
            assert_eq!(code.len(), 23, "{code}");
            assert_eq!(recovery_hash(&code.to_uppercase().replace('-', " ")), hash);
            assert_ne!(recovery_hash(&code[1..]), hash);
        }
    }
}
