//! `hash`: digests, message authentication, and comparing without telling how much was equal.

use crc::{CRC_32_ISO_HDLC, Crc, Table};
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use rhai::{Blob, Dynamic, Engine, Module};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{Result, with_bytes};

/// One table of 1 KiB: a faster variant takes sixteen.
const CRC32: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("sha256", |data: Dynamic| Ok(HEXLOWER.encode(&sha256(&data)?)));
    module.set_native_fn("sha256_bytes", |data: Dynamic| sha256(&data));
    module.set_native_fn("hmac_sha256", |key: Dynamic, data: Dynamic| {
        Ok(HEXLOWER.encode(&hmac_sha256(&key, &data)?))
    });
    module.set_native_fn("hmac_sha256_bytes", |key: Dynamic, data: Dynamic| hmac_sha256(&key, &data));
    module
        .set_native_fn("crc32", |data: Dynamic| with_bytes(&data, |bytes| i64::from(CRC32.checksum(bytes))));
    module.set_native_fn("equals", |a: Dynamic, b: Dynamic| {
        with_bytes(&a, |a| with_bytes(&b, |b| bool::from(a.ct_eq(b))))?
    });
    engine.register_static_module("hash", module.into());
}

fn sha256(data: &Dynamic) -> Result<Blob> {
    with_bytes(data, |bytes| Sha256::digest(bytes).to_vec())
}

fn hmac_sha256(key: &Dynamic, data: &Dynamic) -> Result<Blob> {
    with_bytes(key, |key| {
        with_bytes(data, |data| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may have any length");
            mac.update(data);
            mac.finalize().into_bytes().to_vec()
        })
    })?
}
