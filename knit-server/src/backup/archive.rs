//! The tar that a backup is: written by one hand, and read as nothing else.
//!
//! Invariant: a header is right only if it is, byte by byte, the one that would be written for its
//! name, size and time; so no link, directory or strange path gets past it.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

const BLOCK: usize = 512;
/// Eleven octal digits.
const BYTES_MAX: u64 = 0o77_777_777_777;
/// The member that ends a backup: the SHA-256 of all that is before it.
const SEAL: &str = "sha256";

/// Why something is no backup, or not whole.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it is no backup of knit-server: is it still compressed or encrypted?")]
    Foreign,
    #[error("it is cut off: {0} is not there whole")]
    CutOff(&'static str),
    #[error("it is damaged: {0} is not as it was written")]
    Damaged(String),
    #[error("it holds {found:?} where a backup has {wanted}")]
    Member { found: String, wanted: String },
}

/// Writes members, and what they hash to.
pub struct Writer<W: Write> {
    to: W,
    hash: Sha256,
    seconds: u64,
}

impl<W: Write> Writer<W> {
    /// A tar whose members are all of this second of the Unix epoch.
    pub fn new(to: W, seconds: u64) -> Self {
        Self { to, hash: Sha256::new(), seconds }
    }

    /// Adds a member of exactly so many bytes.
    pub fn add(&mut self, name: &str, bytes: u64, from: &mut dyn Read) -> io::Result<()> {
        if bytes > BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 8 GiB"));
        }
        self.put(&header(name, bytes, self.seconds))?;
        let mut buffer = vec![0; 64 * 1024];
        let mut left = bytes;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let Some(chunk) = buffer.get_mut(..wanted) else { break };
            from.read_exact(chunk)?;
            self.put(chunk)?;
            left -= chunk.len() as u64;
        }
        self.put(&[0; BLOCK][..padding(bytes)])
    }

    /// Seals it, and gives back what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        let line = seal_line(self.hash.clone());
        self.add(SEAL, line.len() as u64, &mut line.as_bytes())?;
        self.put(&[0; 2 * BLOCK])?;
        Ok(self.to)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.to.write_all(bytes)
    }
}

/// Reads what a [`Writer`] wrote.
pub struct Reader<R: Read> {
    from: R,
    hash: Sha256,
    /// What is being read, for a sentence.
    at: &'static str,
}

impl<R: Read> Reader<R> {
    pub fn new(from: R) -> Self {
        Self { from, hash: Sha256::new(), at: "its beginning" }
    }

    /// Reads the member of this name, which must be next and of at most so many bytes; how many
    /// it has.
    pub fn member(
        &mut self,
        name: &'static str,
        bytes_max: u64,
        to: &mut dyn Write,
    ) -> Result<u64, ArchiveError> {
        let bytes = self.header(name)?;
        if bytes > bytes_max {
            return Err(ArchiveError::Damaged(name.to_owned()));
        }
        let mut left = bytes;
        let mut buffer = vec![0; 64 * 1024];
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let Some(chunk) = buffer.get_mut(..wanted) else { break };
            self.fill(chunk)?;
            to.write_all(chunk).map_err(ArchiveError::Read)?;
            left -= wanted as u64;
        }
        let mut rest = [0; BLOCK];
        let rest = &mut rest[..padding(bytes)];
        self.fill(rest)?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err(ArchiveError::Damaged(name.to_owned()));
        }
        Ok(bytes)
    }

    /// Reads the seal and the end.
    pub fn finish(mut self) -> Result<(), ArchiveError> {
        let wanted = seal_line(self.hash.clone());
        let mut found = Vec::new();
        self.member(SEAL, wanted.len() as u64, &mut found)?;
        if found != wanted.as_bytes() {
            return Err(ArchiveError::Damaged("something".to_owned()));
        }
        let mut end = [0; 2 * BLOCK];
        self.fill(&mut end)?;
        let mut beyond = Vec::new();
        let more = self.from.by_ref().take(1).read_to_end(&mut beyond);
        if end.iter().any(|byte| *byte != 0) || more.map_err(ArchiveError::Read)? > 0 {
            return Err(ArchiveError::Damaged("its end".to_owned()));
        }
        Ok(())
    }

    fn header(&mut self, name: &'static str) -> Result<u64, ArchiveError> {
        let first = self.at == "its beginning";
        let mut block = [0; BLOCK];
        let read = self.fill(&mut block);
        self.at = name;
        if first && !matches!(read, Err(ArchiveError::Read(_))) && block[257..262] != *b"ustar" {
            return Err(ArchiveError::Foreign);
        }
        read?;
        let text = |from: usize, to: usize| {
            let field = block.get(from..to).unwrap_or_default();
            let field = field.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(field).into_owned()
        };
        let number = |from, to| u64::from_str_radix(text(from, to).trim(), 8).unwrap_or_default();
        let (found, bytes, seconds) = (text(0, 100), number(124, 136), number(136, 148));
        if found != name {
            return Err(ArchiveError::Member { found, wanted: name.to_owned() });
        }
        if bytes > BYTES_MAX || block != header(name, bytes, seconds) {
            return Err(ArchiveError::Damaged(name.to_owned()));
        }
        Ok(bytes)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        match self.from.read_exact(buffer) {
            Ok(()) => {
                self.hash.update(&*buffer);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(ArchiveError::CutOff(self.at))
            }
            Err(error) => Err(ArchiveError::Read(error)),
        }
    }
}

fn seal_line(hash: Sha256) -> String {
    format!("{}\n", hex::encode(hash.finalize()))
}

fn padding(bytes: u64) -> usize {
    let over = usize::try_from(bytes % BLOCK as u64).unwrap_or_default();
    (BLOCK - over) % BLOCK
}

/// A ustar header of a file of mode 0600.
fn header(name: &str, bytes: u64, seconds: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| {
        for (to, from) in block.iter_mut().skip(at).zip(text) {
            *to = *from;
        }
    };
    put(0, name.as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{bytes:011o}\0").as_bytes());
    put(136, format!("{:011o}\0", seconds.min(BYTES_MAX)).as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    for (to, from) in block.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
        *to = from;
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["a", "b.db"];

    fn written() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), 1_700_000_000);
        writer.add("a", 3, &mut &b"one"[..]).unwrap();
        writer.add("b.db", 1024, &mut &[7; 1024][..]).unwrap();
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, ArchiveError> {
        let mut reader = Reader::new(bytes);
        let mut found = Vec::new();
        for name in NAMES {
            let mut member = Vec::new();
            reader.member(name, 4096, &mut member)?;
            found.push(member);
        }
        reader.finish()?;
        Ok(found)
    }

    #[test]
    fn what_was_written_is_read_and_tar_reads_it_too() {
        assert_eq!(read(&written()).unwrap(), [b"one".to_vec(), vec![7; 1024]]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup.tar");
        std::fs::write(&path, written()).unwrap();
        let listed = std::process::Command::new("tar").arg("-tvf").arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(listed.status.success() && listed.stderr.is_empty(), "{listed:?}");
        assert!(text.contains("-rw-------") && text.contains("1024") && text.contains("b.db"));
    }

    #[test]
    fn nothing_that_was_cut_off_is_whole() {
        let whole = written();
        for length in 0..whole.len() {
            let error = read(&whole[..length]).unwrap_err();
            let is_told = match error {
                ArchiveError::CutOff(_) => true,
                ArchiveError::Foreign => length < BLOCK,
                ArchiveError::Read(_) | ArchiveError::Damaged(_) | ArchiveError::Member { .. } => {
                    false
                }
            };
            assert!(is_told, "{length}: {error}");
        }
    }

    #[test]
    fn no_byte_can_be_another() {
        let whole = written();
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 0x20;
            assert!(read(&other).is_err(), "byte {at}");
        }
        assert!(read(&[whole, vec![0]].concat()).is_err(), "nor more at the end");
    }

    #[test]
    fn nothing_but_its_own_members_is_taken() {
        let mut strange = Writer::new(Vec::new(), 0);
        strange.add("../a", 3, &mut &b"one"[..]).unwrap();
        let error = read(&strange.finish().unwrap()).unwrap_err().to_string();
        assert_eq!(error, "it holds \"../a\" where a backup has a");
        // A symbolic link of the right name, with a right sum.
        let mut link = header("a", 3, 0);
        link[156] = b'2';
        link[148..156].copy_from_slice(b"        ");
        let sum: u32 = link.iter().map(|byte| u32::from(*byte)).sum();
        link[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let error = read(&link).unwrap_err().to_string();
        assert_eq!(error, "it is damaged: a is not as it was written");
        assert!(matches!(read(b"PK").unwrap_err(), ArchiveError::Foreign));
    }
}
