use super::*;
use crate::layer::entry::Xattr;

/// A header block with its sum.
fn block(name: &[u8], flag: u8, size: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0004755");
    block[108..115].copy_from_slice(b"0001750");
    block[116..123].copy_from_slice(b"0000012");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00000000012");
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    sum(&mut block);
    block
}

fn sum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    block[154] = 0;
}

fn body(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}

fn pax(records: &[Vec<u8>]) -> Vec<u8> {
    let records = records.concat();
    [block(b"pax", b'x', records.len() as u64), body(&records)].concat()
}

fn at(seconds: i64, nanos: u32) -> Timestamp {
    Timestamp { seconds, nanos }
}

fn one(tar: &[u8]) -> Result<Entry, UntarError> {
    Untar::new(tar).next_entry().map(Option::unwrap)
}

#[test]
fn plain_headers_are_read() {
    let entry = one(&[block(b"a/b", b'0', 3), body(b"abc")].concat()).unwrap();
    let wanted = Entry {
        path: b"a/b".to_vec(),
        what: What::File { size: 3 },
        meta: Meta { mode: 0o4755, uid: 1000, gid: 10, mtime: at(10, 0) },
        xattrs: Vec::new(),
    };
    assert_eq!(entry, wanted);
    let device = Device { major: 0, minor: 0 };
    let kinds = [
        (b'1', What::Hardlink { target: Vec::new() }),
        (b'2', What::Symlink { target: Vec::new() }),
        (b'3', What::CharDevice(device)),
        (b'4', What::BlockDevice(device)),
        (b'5', What::Directory),
        (b'6', What::Fifo),
        (b'7', What::File { size: 0 }),
        (0, What::File { size: 0 }),
    ];
    for (flag, what) in kinds {
        assert_eq!(one(&block(b"a", flag, 0)).unwrap().what, what);
    }
    assert_eq!(one(&block(b"a/", 0, 0)).unwrap().what, What::Directory, "as before ustar");
}

#[test]
fn records_go_before_fields() {
    let records = [
        record("path", b"p\xff/\xc3\xa4"),
        record("linkpath", b"to"),
        record("size", b"2"),
        record("uid", b"3000000000"),
        record("gid", b"7"),
        record("mtime", b"1700000000.123456789"),
        record("SCHILY.xattr.user.a", b"x\0=\ny"),
        record("SCHILY.xattr.user.a", b"the last one counts"),
        record("comment", b"not known"),
    ];
    let entry = one(&[pax(&records), block(b"short", b'0', 9), body(b"ab")].concat()).unwrap();
    assert_eq!((entry.path.as_slice(), &entry.what), (&b"p\xff/\xc3\xa4"[..], &What::File { size: 2 }));
    assert_eq!((entry.meta.uid, entry.meta.gid), (3_000_000_000, 7));
    assert_eq!(entry.meta.mtime, at(1_700_000_000, 123_456_789));
    assert_eq!(entry.xattrs, [Xattr { name: b"user.a".to_vec(), value: b"the last one counts".to_vec() }]);
    let entry = one(&[pax(&records), block(b"short", b'2', 0)].concat()).unwrap();
    assert_eq!(entry.what, What::Symlink { target: b"to".to_vec() });
}

#[test]
fn times_are_exact() {
    let table: [(&[u8], (i64, u32)); 6] = [
        (b"5", (5, 0)),
        (b"5.5", (5, 500_000_000)),
        (b"5.1234567891", (5, 123_456_789)),
        (b"-1.25", (-2, 750_000_000)),
        (b"-0.25", (-1, 750_000_000)),
        (b"-3", (-3, 0)),
    ];
    for (text, (seconds, nanos)) in table {
        let entry = one(&[pax(&[record("mtime", text)]), block(b"a", b'0', 0)].concat()).unwrap();
        assert_eq!(entry.meta.mtime, at(seconds, nanos));
    }
}

#[test]
fn gnu_names_ustar_prefixes_and_large_numbers_are_read() {
    let long = [b'n'; 300];
    let tar = [block(b"././@LongLink", b'L', 301), body(&[&long[..], b"\0"].concat()), block(b"n", b'2', 0)];
    assert_eq!(one(&tar.concat()).unwrap().path, long);
    let mut prefixed = block(b"name", b'0', 0);
    prefixed[345..348].copy_from_slice(b"a/b");
    prefixed[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]);
    prefixed[136..148]
        .copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]);
    sum(&mut prefixed);
    let entry = one(&prefixed).unwrap();
    assert_eq!((entry.path.as_slice(), entry.meta.mtime), (&b"a/b/name"[..], at(-2, 0)));
    assert_eq!(entry.what, What::File { size: (2 << 32) + 1 });
}

#[test]
fn bodies_are_read_or_skipped() {
    let tar =
        [block(b"a", b'0', 3), body(b"abc"), block(b"b", b'0', 600), body(&[7; 600]), vec![0; 1024]].concat();
    let mut untar = Untar::new(&tar[..]);
    assert_eq!(untar.next_entry().unwrap().unwrap().path, b"a");
    let entry = untar.next_entry().unwrap().unwrap();
    let mut read = Vec::new();
    let take = |piece: &[u8]| {
        read.extend_from_slice(piece);
        Ok::<_, io::Error>(())
    };
    untar.read_body(take).unwrap();
    assert_eq!((entry.path.as_slice(), read), (&b"b"[..], vec![7; 600]));
    assert!(untar.next_entry().unwrap().is_none());
    untar.drain().unwrap();
}

#[test]
fn deletions_are_read_as_such() {
    let tar = [block(b".wh..wh.aufs", b'0', 0), block(b"a/.wh.b", b'0', 3), body(b"xyz")].concat();
    let tar = [tar, block(b"a/.wh..wh..opq", b'0', 0)].concat();
    let mut untar = Untar::new(&tar[..]);
    let mut next = || untar.next_entry().unwrap().map(|entry| (entry.path, entry.what));
    assert_eq!(next(), Some((b"a/b".to_vec(), What::Whiteout)));
    assert_eq!(next(), Some((b"a".to_vec(), What::Opaque)));
    assert_eq!(next(), None);
}

#[test]
fn what_is_broken_or_out_of_bounds_is_refused() {
    let wrong_sum = {
        let mut block = block(b"a", b'0', 0);
        block[0] = b'b';
        block
    };
    let huge = [block(b"pax", b'x', 1 << 30)].concat();
    let table: [(&str, Vec<u8>); 14] = [
        ("sum", wrong_sum),
        ("records without end", huge),
        ("type", block(b"a", b'S', 0)),
        ("type", block(b"a", b'Z', 0)),
        ("sparse", [pax(&[record("GNU.sparse.major", b"1")]), block(b"a", b'0', 0)].concat()),
        ("zero byte", [pax(&[record("path", b"a\0b")]), block(b"a", b'0', 0)].concat()),
        ("length", [pax(&[b"99 path=a\n".to_vec()]), block(b"a", b'0', 0)].concat()),
        ("uid", [pax(&[record("uid", b"99999999999")]), block(b"a", b'0', 0)].concat()),
        ("cut header", block(b"a", b'0', 0)[..100].to_vec()),
        ("records of nothing", pax(&[record("path", b"a")])),
        ("root", block(b"./", b'2', 0)),
        ("out", block(b"a/../../b", b'0', 0)),
        ("link out", [pax(&[record("linkpath", b"../b")]), block(b"a", b'1', 0)].concat()),
        ("after the end", [vec![0; 512], block(b"a", b'0', 0)].concat()),
    ];
    for (what, tar) in table {
        assert!(Untar::new(&tar[..]).next_entry().is_err(), "{what}");
    }
    let cut = [block(b"a", b'0', 600), body(b"abc")].concat();
    let mut untar = Untar::new(&cut[..]);
    untar.next_entry().unwrap();
    assert!(untar.next_entry().is_err(), "a cut body");
}
