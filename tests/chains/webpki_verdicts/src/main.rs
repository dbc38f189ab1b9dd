//! Prints the results of rustls-webpki for chains that it reads from its standard input.
//!
//! Each line is a word and hexadecimal values: `root`, `ca`, `crl` or `leaf` with DER; `sig` with a public key, a
//! message and the valid signature of both; `run` with the time, for which one line with a result for each leaf is
//! printed. All signatures that are not in the input count as invalid.

use std::collections::HashSet;
use std::io::{BufRead, Write};
use std::sync::Mutex;
use std::time::Duration;

use pki_types::{
    alg_id, AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm, UnixTime,
};
use webpki::{
    anchor_from_trusted_cert, BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy,
    ExtendedKeyUsage, PathBuilder, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};

const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

type Signature = (Vec<u8>, Vec<u8>, Vec<u8>);
static VALID: Mutex<Option<HashSet<Signature>>> = Mutex::new(None);

#[derive(Debug)]
struct Table;

impl SignatureVerificationAlgorithm for Table {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let found = (key.to_vec(), message.to_vec(), signature.to_vec());
        match VALID.lock().unwrap().as_ref().unwrap().contains(&found) {
            true => Ok(()),
            false => Err(InvalidSignature),
        }
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA256
    }
}

#[derive(Default)]
struct Input {
    roots: Vec<Vec<u8>>,
    authorities: Vec<Vec<u8>>,
    lists: Vec<Vec<u8>>,
    leaves: Vec<Vec<u8>>,
}

impl Input {
    fn verify(&self, leaf: &[u8], now: u64) -> Result<(), String> {
        let roots: Vec<CertificateDer> = self.roots.iter().map(|each| CertificateDer::from(&each[..])).collect();
        let anchors: Vec<_> = roots.iter().filter_map(|each| anchor_from_trusted_cert(each).ok()).collect();
        let between: Vec<CertificateDer> = self.authorities.iter().map(|each| CertificateDer::from(&each[..])).collect();
        let mut lists: Vec<CertRevocationList> = vec![];
        for each in &self.lists {
            lists.push(BorrowedCertRevocationList::from_der(each).map_err(|error| format!("list {error:?}"))?.into());
        }
        let references: Vec<&CertRevocationList> = lists.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&references)
            .map_err(|_| "no list")?
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Deny)
            .with_expiration_policy(ExpirationPolicy::Enforce)
            .build();
        let der = CertificateDer::from(leaf);
        let end = EndEntityCert::try_from(&der).map_err(|error| format!("{error:?}"))?;
        let purpose = ExtendedKeyUsage::required_if_present(CLIENT_AUTH);
        let algorithms: [&dyn SignatureVerificationAlgorithm; 1] = [&Table];
        let builder = PathBuilder::new(&between, Some(revocation), &purpose, &algorithms, &anchors);
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
        builder.build(&end, time).map(|_| ()).map_err(|error| format!("{error:?}"))
    }
}

fn decode(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2);
    digits.map(|each| u8::from_str_radix(std::str::from_utf8(each).unwrap(), 16).unwrap()).collect()
}

fn main() {
    let mut input = Input::default();
    *VALID.lock().unwrap() = Some(HashSet::new());
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            "root" => input.roots.push(decode(words[1])),
            "ca" => input.authorities.push(decode(words[1])),
            "crl" => input.lists.push(decode(words[1])),
            "leaf" => input.leaves.push(decode(words[1])),
            "sig" => {
                let signature = (decode(words[1]), decode(words[2]), decode(words[3]));
                VALID.lock().unwrap().as_mut().unwrap().insert(signature);
            }
            "run" => {
                let now = words[1].parse().unwrap();
                let results = input.leaves.iter().map(|each| input.verify(each, now).err().unwrap_or("ok".into()));
                println!("{}", results.collect::<Vec<_>>().join("\t"));
                std::io::stdout().flush().unwrap();
                input = Input::default();
                VALID.lock().unwrap().as_mut().unwrap().clear();
            }
            other => panic!("unknown word {other}"),
        }
    }
}
