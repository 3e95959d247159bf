use super::*;
use proptest::prelude::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(u8::is_ascii_hexdigit)
        .map(|d| char::from(d).to_digit(16).expect("a digit") as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn show(list: &FieldList) -> String {
    list.iter()
        .map(|(name, value)| format!("{}: {}\n", name.escape_ascii(), value.escape_ascii()))
        .collect()
}

#[track_caller]
fn check(decoder: &mut Decoder, block: &str, expect: &str, table_bytes: usize) {
    let mut list = FieldList::default();
    decoder
        .decode(&hex(block), 1 << 16, &mut list)
        .expect("the block is good");
    assert_eq!(show(&list), expect);
    assert_eq!(decoder.table.size(), table_bytes);
}

/// RFC 7541, appendix C.3: three requests on one connection, without Huffman.
#[test]
fn requests_of_the_rfc() {
    let mut decoder = Decoder::new(4096);
    let common = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n";
    check(&mut decoder, "828684410f7777772e6578616d706c652e636f6d", common, 57);
    check(
        &mut decoder,
        "828684be58086e6f2d6361636865",
        &format!("{common}cache-control: no-cache\n"),
        110,
    );
    check(
        &mut decoder,
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value\n",
        164,
    );
}

/// RFC 7541, appendix C.4: the same with Huffman.
#[test]
fn requests_of_the_rfc_with_huffman() {
    let mut decoder = Decoder::new(4096);
    let common = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n";
    check(&mut decoder, "828684418cf1e3c2e5f23a6ba0ab90f4ff", common, 57);
    check(
        &mut decoder,
        "828684be5886a8eb10649cbf",
        &format!("{common}cache-control: no-cache\n"),
        110,
    );
    check(
        &mut decoder,
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value\n",
        164,
    );
}

/// RFC 7541, appendix C.6: responses through a table of 256 bytes, so that entries are evicted.
#[test]
fn responses_of_the_rfc_with_eviction() {
    let mut decoder = Decoder::new(256);
    check(
        &mut decoder,
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com\n",
        222,
    );
    check(
        &mut decoder,
        "4883640effc1c0bf",
        ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com\n",
        222,
    );
    check(
        &mut decoder,
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com\n\
         content-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n",
        215,
    );
}

#[test]
fn broken_blocks() {
    for (block, error) in [
        ("40", DecodeError::Truncated),
        ("400a6375", DecodeError::Truncated),
        ("80", DecodeError::Index),
        ("be", DecodeError::Index),
        ("7f00", DecodeError::Index),
        ("ffffffffff7f", DecodeError::Integer),
        ("7fffffffff00", DecodeError::Integer),
        // A table larger than allowed; a change after a field.
        ("3fe21f", DecodeError::TableSize),
        ("8220", DecodeError::TableSize),
        // Padding of a whole byte, padding of zeros, the end-of-string code itself.
        ("0081ff00", DecodeError::Huffman),
        ("0081f000", DecodeError::Huffman),
        ("0084ffffffff00", DecodeError::Huffman),
    ] {
        let mut list = FieldList::default();
        assert_eq!(
            Decoder::new(4096).decode(&hex(block), 1 << 16, &mut list),
            Err(error),
            "{block}"
        );
    }
}

#[test]
fn a_table_may_shrink_and_grow_within_its_limit() {
    let mut decoder = Decoder::new(4096);
    check(&mut decoder, "4001610162", "a: b\n", 34);
    check(&mut decoder, "203fe11f be".get(..8).expect("ascii"), "", 0);
    let mut list = FieldList::default();
    assert_eq!(decoder.decode(&hex("be"), 1 << 16, &mut list), Err(DecodeError::Index));
}

/// One byte each asks for a field of four thousand: the list stops at its limit, the table goes on.
#[test]
fn a_bomb_stays_small() {
    let mut decoder = Decoder::new(4096);
    let mut block = Vec::new();
    block.extend_from_slice(&[0x40, 1, b'a']);
    encode::integer(&mut block, 0, 7, 4000);
    block.extend_from_slice(&[b'x'; 4000]);
    block.extend_from_slice(&[0xbe; 10_000]);
    let mut list = FieldList::default();
    assert_eq!(decoder.decode(&block, 16 << 10, &mut list), Ok(()));
    assert!(list.is_over());
    assert!(list.bytes.len() < 17 << 10, "{}", list.bytes.len());
    list.clear();
    assert_eq!(decoder.decode(&[0xbe], 16 << 10, &mut list), Ok(()));
    assert_eq!(list.iter().count(), 1);
}

proptest! {
    #[test]
    fn huffman_there_and_back(plain in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (mut coded, mut back) = (Vec::new(), Vec::new());
        huffman::encode(&plain, &mut coded);
        prop_assert_eq!(huffman::decode(&coded, &mut back), Ok(()));
        prop_assert_eq!(back, plain);
    }

    #[test]
    fn fields_there_and_back(fields in proptest::collection::vec(("[a-z:-]{1,20}", proptest::collection::vec(any::<u8>(), 0..300)), 0..20)) {
        let mut block = Vec::new();
        for (name, value) in &fields {
            field(&mut block, name, value);
        }
        let mut list = FieldList::default();
        prop_assert_eq!(Decoder::new(4096).decode(&block, 1 << 20, &mut list), Ok(()));
        let back: Vec<_> = list.iter().map(|(n, v)| (String::from_utf8_lossy(n).into_owned(), v.to_vec())).collect();
        prop_assert_eq!(back, fields);
    }

    #[test]
    fn anything_is_decoded_or_refused(block in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut list = FieldList::default();
        let _ = Decoder::new(256).decode(&block, 1 << 12, &mut list);
        prop_assert!(list.bytes.len() <= (1 << 12) + 8 * block.len());
    }
}
