//! Digests and HMAC, for `crypto.subtle`.

use super::throw;
use crate::wire::bytes;
use hmac::{Hmac, KeyInit, Mac};
use rquickjs::{Ctx, Function, Object, Result, TypedArray};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

pub(crate) fn add<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    native.set("digest", Function::new(ctx.clone(), digest)?)?;
    native.set("hmac", Function::new(ctx.clone(), hmac)?)
}

fn digest<'js>(ctx: Ctx<'js>, algorithm: String, data: TypedArray<'js, u8>) -> Result<TypedArray<'js, u8>> {
    let data = bytes(&data)?;
    let digest = match algorithm.as_str() {
        "SHA-1" => Sha1::digest(data).to_vec(),
        "SHA-256" => Sha256::digest(data).to_vec(),
        "SHA-384" => Sha384::digest(data).to_vec(),
        "SHA-512" => Sha512::digest(data).to_vec(),
        _ => return Err(throw(&ctx, &format!("there is no `{algorithm}`: use SHA-1, SHA-256, SHA-384 or SHA-512"))),
    };
    TypedArray::new(ctx, digest)
}

fn hmac<'js>(
    ctx: Ctx<'js>,
    algorithm: String,
    key: TypedArray<'js, u8>,
    data: TypedArray<'js, u8>,
) -> Result<TypedArray<'js, u8>> {
    let (key, data) = (bytes(&key)?, bytes(&data)?);
    const ANY: &str = "a key of HMAC has any length";
    let code = match algorithm.as_str() {
        "SHA-1" => Hmac::<Sha1>::new_from_slice(&key).expect(ANY).chain_update(data).finalize().into_bytes().to_vec(),
        "SHA-256" => Hmac::<Sha256>::new_from_slice(&key).expect(ANY).chain_update(data).finalize().into_bytes().to_vec(),
        "SHA-384" => Hmac::<Sha384>::new_from_slice(&key).expect(ANY).chain_update(data).finalize().into_bytes().to_vec(),
        "SHA-512" => Hmac::<Sha512>::new_from_slice(&key).expect(ANY).chain_update(data).finalize().into_bytes().to_vec(),
        _ => return Err(throw(&ctx, &format!("there is no `{algorithm}`: use SHA-1, SHA-256, SHA-384 or SHA-512"))),
    };
    TypedArray::new(ctx, code)
}
