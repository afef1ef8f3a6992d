use alloc::{string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::*;

fn text_key(collation: &str, charset: u16, text: &[u8], prefix: Option<u32>) -> Vec<u8> {
    let mut column = Column::new(ColumnKind::Var { bytes_max: 255 });
    column.collation = Some(charset);
    let hint = ColumnHint {
        fold: KeyFold::from_collation(collation),
        ..ColumnHint::default()
    };
    let mut raw = vec![text.len() as u8];
    raw.extend_from_slice(text);
    let mut out = Vec::new();
    write_key(&mut out, &column, &hint, &raw, prefix);
    out
}

fn key(collation: &str, text: &str) -> Vec<u8> {
    text_key(collation, 45, text.as_bytes(), None)
}

const UTF8: [&str; 5] = [
    "utf8mb4_0900_ai_ci",
    "utf8mb4_general_ci",
    "utf8mb4_unicode_ci",
    "utf8mb4_uca1400_ai_ci",
    "utf8mb4_de_pb_0900_ai_ci",
];

#[test]
fn what_a_collation_takes_for_equal_has_one_key() {
    let equal = [
        ["Straße", "STRASSE"],
        ["Äpfel", "aepfel"],
        ["Äpfel", "APFEL"],
        ["Ærø", "aeroe"],
        ["École", "ecole"],
        ["ＦＵＬＬ １２", "full 12"],
        ["trailing  ", "trailing"],
        ["ΣΊΣΥΦΟΣ", "σίσυφος"],
        ["カタカナ", "かたかな"],
        ["٣", "3"],
        ["①②", "12"],
        ["a\u{301}", "á"],
        ["\u{200b}x\u{1}", "x"],
        ["ﬁnd", "find"],
    ];
    for collation in UTF8 {
        for [a, b] in equal {
            assert_eq!(key(collation, a), key(collation, b), "{collation} {a} {b}");
        }
    }
    // Above U+FFFF the older collations see one character only.
    assert_eq!(
        key("utf8mb4_general_ci", "a😀"),
        key("utf8mb4_general_ci", "a𝐁")
    );
    assert_eq!(
        key("utf8mb4_0900_ai_ci", "𝐁"),
        key("utf8mb4_0900_ai_ci", "b")
    );
    // Languages that take letters together have only digits left.
    assert_eq!(
        key("utf8mb4_hungarian_ci", "ccs 1"),
        key("utf8mb4_hungarian_ci", "cscs 1")
    );
    assert_ne!(
        key("utf8mb4_hungarian_ci", "x1"),
        key("utf8mb4_hungarian_ci", "x2")
    );
    assert_eq!(
        key("utf8mb4_persian_ci", "x1"),
        key("utf8mb4_persian_ci", "x2")
    );
}

#[test]
fn different_values_mostly_have_different_keys() {
    let different = [
        ["user-000123", "user-000124"],
        ["anna", "bert"],
        ["Иванов", "Петров"],
        ["中文", "日本"],
        ["1", "11"],
        ["abc", "abd"],
        ["ありがとう", "さようなら"],
    ];
    for collation in UTF8.iter().take(4) {
        for [a, b] in different {
            assert_ne!(key(collation, a), key(collation, b), "{collation} {a} {b}");
        }
    }
}

#[test]
fn binary_collations_keep_the_bytes() {
    assert_ne!(key("utf8mb4_bin", "a"), key("utf8mb4_bin", "A"));
    assert_eq!(key("utf8mb4_bin", "a  "), key("utf8mb4_0900_bin", "a"));
    assert_ne!(
        text_key("binary", 63, b"a ", None),
        text_key("binary", 63, b"a", None)
    );
    // BINARY(n) comes without its zeros.
    assert_eq!(
        text_key("binary", 63, b"a\0\0", None),
        text_key("binary", 63, b"a", None)
    );
    assert_eq!(
        text_key("utf16_bin", 55, b"\0a\0 ", None),
        text_key("utf16_bin", 55, b"\0a", None)
    );
}

#[test]
fn other_charsets() {
    let latin1 = |text: &[u8]| text_key("latin1_swedish_ci", 8, text, None);
    assert_eq!(latin1(b"\xdcber"), latin1(b"yber"));
    assert_eq!(latin1(b"\xc4"), latin1(b"\\"));
    assert_ne!(latin1(b"abc"), latin1(b"abd"));
    let gbk = |text: &[u8]| text_key("gbk_chinese_ci", 28, text, None);
    assert_eq!(gbk(b"ABC"), gbk(b"abc"));
    assert_ne!(gbk(b"abc"), gbk(b"abd"));
    assert_eq!(gbk(b"\xd6\xd0"), gbk(b"\xb9\xfa"));
    let latin2 = |text: &[u8]| text_key("latin2_general_ci", 9, text, None);
    assert_eq!(latin2(b"a1"), latin2(b"\xe11"));
    assert_ne!(latin2(b"a1"), latin2(b"a2"));
    let ucs2 = |text: &[u8]| text_key("ucs2_general_ci", 35, text, None);
    assert_eq!(ucs2(b"\0a"), ucs2(b"\0b"));
}

#[test]
fn prefixes_count_characters() {
    let collation = "utf8mb4_0900_ai_ci";
    let prefix = |text: &str, chars| text_key(collation, 45, text.as_bytes(), Some(chars));
    assert_eq!(prefix("éabc", 2), prefix("EAxx", 2));
    assert_ne!(prefix("éabc", 2), prefix("Ebxx", 2));
    assert_eq!(prefix("abc", 5), prefix("ABC", 5));
    let bin = |text: &str| text_key("utf8mb4_bin", 45, text.as_bytes(), Some(2));
    assert_eq!(bin("日本語"), "日本".as_bytes());
    assert_eq!(text_key("binary", 63, b"abcdef", Some(2)), b"ab");
}

#[test]
fn numbers_have_one_form() {
    let key = |kind, unsigned, raw: &[u8]| {
        let mut column = Column::new(kind);
        column.unsigned = Some(unsigned);
        let mut out = Vec::new();
        write_key(&mut out, &column, &ColumnHint::default(), raw, None);
        out
    };
    let minus_one = key(ColumnKind::LongLong, false, &[0xff; 8]);
    for (kind, len) in [
        (ColumnKind::Tiny, 1),
        (ColumnKind::Int24, 3),
        (ColumnKind::Long, 4),
    ] {
        assert_eq!(key(kind, false, &[0xff; 8][..len]), minus_one);
        assert_ne!(key(kind, true, &[0xff; 8][..len]), minus_one);
    }
    let double = |value: f64| key(ColumnKind::Double, false, &value.to_le_bytes());
    assert_eq!(double(0.0), double(-0.0));
    assert_eq!(
        key(ColumnKind::Float, false, &1.5f32.to_le_bytes()),
        double(1.5)
    );
    let decimal = |precision, scale, raw| key(ColumnKind::Decimal { precision, scale }, false, raw);
    assert_eq!(decimal(4, 2, &[0x8c, 0x32]), b"12.5");
    assert_eq!(decimal(6, 4, &[0x8c, 0x13, 0x88]), b"12.5");
    assert_eq!(decimal(4, 2, &[0x80, 0]), decimal(4, 2, &[0x7f, 0xff]));
    assert_eq!(decimal(4, 0, &[0x80, 100]), b"100");
}

#[test]
fn the_table_is_sorted() {
    assert!(ALIKE.is_sorted_by(|a, b| a.0 < b.0));
    assert!(ZEROS.is_sorted_by(|a, b| a < b));
}

proptest! {
    #[test]
    fn ascii_takes_the_same_way_as_the_rest(text in "[ -~]{0,20}") {
        let mut fast = Vec::new();
        let mut slow = Vec::new();
        let mut fold = Fold::new(&mut fast, true);
        text.bytes().for_each(|byte| fold.ascii(byte));
        Fold::new(&mut slow, true).text(text.chars());
        prop_assert_eq!(fast, slow);
    }

    #[test]
    fn case_and_padding_never_matter(text: String) {
        for collation in UTF8 {
            let one = key(collation, &text.chars().take(20).collect::<String>());
            let mut other = text.chars().take(20).collect::<String>().to_lowercase();
            other.push(' ');
            if other.len() < 200 {
                prop_assert_eq!(&one, &key(collation, &other));
            }
        }
    }
}
