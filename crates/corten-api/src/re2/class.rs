//! Classes and escapes.

use super::Problem;

/// General categories, as RE2 writes them.
const CATEGORIES: &str =
    "Any C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs";

/// Scripts, as RE2 writes them; those that Unicode has had since its version 16 may be new to it.
const SCRIPTS: &str = "\
    Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki Bopomofo \
    Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Chorasmian Common \
    Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs \
    Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi Gurmukhi Han Hangul \
    Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi \
    Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki \
    Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean \
    Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi \
    Mongolian Mro Multani Myanmar Nabataean Nag_Mundari Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong \
    Ogham Ol_Chiki Old_Hungarian Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian \
    Old_Turkic Old_Uyghur Oriya Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi \
    Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese \
    Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan \
    Tifinagh Tirhuta Toto Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square";

/// Classes between `[:` and `:]`.
const POSIX: &str = "alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit";

/// Instructions for a class of a category or script, at most.
const GROUP_SIZE: u64 = 700;
/// Instructions for what begins a class that is all but something, and for ranges beyond ASCII.
const WIDE_SIZE: u64 = 12;

/// Reads a class in brackets; how many instructions it takes.
pub(super) fn read(rest: &mut &str, fold: bool) -> Result<u64, Problem> {
    let mut size = 1;
    let mut inner = &rest[1..];
    if let Some(negated) = inner.strip_prefix('^') {
        inner = negated;
        size += WIDE_SIZE;
    }
    let mut is_first = true;
    loop {
        match inner.chars().next() {
            None => return Err(Problem::UnclosedClass),
            Some(']') if !is_first => break,
            Some(_) => {}
        }
        is_first = false;
        if let Some((name, after)) = inner.strip_prefix("[:").and_then(|named| named.split_once(":]")) {
            if !is_one_of(POSIX, name.strip_prefix('^').unwrap_or(name)) {
                return Err(Problem::Class(format!("[:{name}:]")));
            }
            inner = after;
            size += WIDE_SIZE;
            continue;
        }
        if let Some(of_class) = named(&mut inner)? {
            size += of_class;
            continue;
        }
        let whole = inner;
        let low = character(&mut inner)?;
        let high = match inner.strip_prefix('-') {
            Some(after) if !after.is_empty() && !after.starts_with(']') => {
                inner = after;
                character(&mut inner)?
            }
            _ => low,
        };
        if high < low {
            return Err(Problem::Class(super::read_of(whole, inner)));
        }
        size += if high.is_ascii() { 1 } else { WIDE_SIZE };
    }
    *rest = &inner[1..];
    Ok(if fold { size * 3 } else { size })
}

/// A class by its name, `\\d` or `\\p{Greek}`; how many instructions it takes. `None`: it is none.
pub(super) fn named(rest: &mut &str) -> Result<Option<u64>, Problem> {
    let Some(after) = rest.strip_prefix('\\') else {
        return Ok(None);
    };
    let size = match after.chars().next() {
        Some('d' | 's' | 'w') => 5,
        Some('D' | 'S' | 'W') => 5 + WIDE_SIZE,
        Some('p' | 'P') => {
            let after = &after[1..];
            let unclosed = || Problem::Class(rest.chars().take(16).collect());
            let (name, after) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or_else(unclosed)?,
                None => {
                    let length = after.chars().next().ok_or_else(unclosed)?.len_utf8();
                    after.split_at(length)
                }
            };
            let known = name.strip_prefix('^').unwrap_or(name);
            if !is_one_of(CATEGORIES, known) && !is_one_of(SCRIPTS, known) {
                return Err(Problem::Class(super::read_of(rest, after)));
            }
            *rest = after;
            return Ok(Some(GROUP_SIZE));
        }
        _ => return Ok(None),
    };
    *rest = &after[1..];
    Ok(Some(size))
}

fn is_one_of(names: &str, name: &str) -> bool {
    names.split(' ').any(|known| known == name)
}

/// A character of a class.
fn character(rest: &mut &str) -> Result<char, Problem> {
    match rest.chars().next() {
        None => Err(Problem::UnclosedClass),
        Some('\\') => escaped(rest),
        Some(other) => {
            *rest = &rest[other.len_utf8()..];
            Ok(other)
        }
    }
}

/// A character that is written with a backslash.
pub(super) fn escaped(rest: &mut &str) -> Result<char, Problem> {
    let whole = *rest;
    let mut after = &whole[1..];
    let Some(first) = after.chars().next() else {
        return Err(Problem::Backslash);
    };
    after = &after[first.len_utf8()..];
    let unknown = || Problem::Escape(whole.chars().take(2).collect());
    let character = match first {
        'a' => '\u{7}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        // One digit would be a reference to a group, which there is not.
        '1'..='7' if !after.starts_with(|next: char| next.is_digit(8)) => return Err(unknown()),
        '0'..='7' => {
            let digits = 1 + after
                .bytes()
                .take(2)
                .take_while(|byte| (b'0'..=b'7').contains(byte))
                .count();
            let code = u8::from_str_radix(&whole[1..=digits], 8);
            after = &whole[digits + 1..];
            char::from(code.map_err(|_| unknown())?)
        }
        'x' => {
            let (digits, end) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or_else(unknown)?,
                None => {
                    let is_pair = after.len() >= 2 && after.is_char_boundary(2);
                    if is_pair {
                        after.split_at(2)
                    } else {
                        return Err(unknown());
                    }
                }
            };
            let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let code = u32::from_str_radix(digits.trim_start_matches('0'), 16).or_else(|_| {
                // Nothing but zeros.
                if is_hex && digits.bytes().all(|byte| byte == b'0') {
                    Ok(0)
                } else {
                    Err(())
                }
            });
            after = end;
            // Where patterns are bytes, there are no larger ones.
            let code = code.ok().filter(|_| is_hex).and_then(|code| u8::try_from(code).ok());
            char::from(code.ok_or_else(unknown)?)
        }
        other if other.is_ascii() && !other.is_ascii_alphanumeric() => other,
        _ => return Err(unknown()),
    };
    *rest = after;
    Ok(character)
}
