//! Looking for what must not be written anywhere.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use memchr::memmem;

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Every place below a directory where one of the words stands: in a file's name or bytes, also inside of gzip.
pub async fn hunt(directory: &Path, words: &[String]) -> Result<Vec<String>> {
    ensure!(words.iter().all(|word| word.len() >= 8), "a short word is found everywhere: {words:?}");
    let (directory, words) = (directory.to_owned(), words.to_owned());
    tokio::task::spawn_blocking(move || search(&directory, &words)).await.context("look for words")?
}

/// The words that stand in a text.
pub fn found_in(what: &str, bytes: &[u8], words: &[String]) -> Vec<String> {
    let there = |word: &&String| memmem::find(bytes, word.as_bytes()).is_some();
    words.iter().filter(there).map(|word| format!("{word} in {what}")).collect()
}

fn search(directory: &Path, words: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in files(directory)? {
        let shown = file.display().to_string();
        found.extend(found_in(&format!("the name of {shown}"), shown.as_bytes(), words));
        let bytes = std::fs::read(&file).with_context(|| format!("read {shown}"))?;
        found.extend(found_in(&shown, &bytes, words));
        if bytes.starts_with(&GZIP) {
            found.extend(found_in(&format!("{shown}, decompressed"), &gunzip(&file)?, words));
        }
    }
    Ok(found)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files.extend(self::files(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// What a gzip file holds; an upload that was left half-way gives what can be had of it.
fn gunzip(file: &Path) -> Result<Vec<u8>> {
    let input = File::open(file).context("open a gzip file")?;
    let output = Command::new("gzip").args(["-d", "-c"]).stdin(input).stderr(Stdio::null()).output();
    Ok(output.context("run gzip")?.stdout)
}
