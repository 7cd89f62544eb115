#!/bin/sh
# Restores one file that sidekey encrypted, with a POSIX shell and the OpenSSL 3 command line alone.
#
#   restore-with-openssl.sh -i KEY.pem [-p PASSPHRASE_FILE] [-e ENVELOPE] [-o OUT] [-f] NAME.enc
#
#   -i  RSA private key in PEM; OpenSSL asks for its passphrase, or takes the first line of the file after -p
#   -e  the envelope; if absent, NAME.<data id>.key.enc and NAME.key.enc beside the container are tried
#   -o  the file to make; if absent, NAME beside NAME.enc
#   -f  replace OUT if it exists
#
# WARNING: `openssl kdf`, `openssl mac` and `openssl enc` take keys as arguments. While this runs, everybody who may
# list the processes of this machine can see the file key. It opens this one file, not the private key. On a machine
# that others use too, take restore.py: it needs only Python and `cryptography`, and shows no key to anybody.
#
# It follows docs/format.md: the key commitment, the tag of every section, every length, the end section and the digest
# are checked, and OUT gets its name only when all of it was good. It is slow: about 60 sections a second, which is
# 4 MB/s with the usual sections of 64 KiB. restore.py is about a hundred times faster.
#
# Needs, besides OpenSSL: awk cat chmod cmp cut dd ln mktemp mv od rm sed sync tail tr wc.
# Exit status: 0 done; 1 failed; 2 wrong usage; 3 damaged bytes or half a pair; 130 interrupted.

# `a && b || damaged` is meant as it reads, and the one computed printf format holds octal escapes only:
# shellcheck disable=SC2015,SC2059
set -u
umask 077
LC_ALL=C
export LC_ALL
work='' pem='' secret=''

main() {
    parse_arguments "$@"
    check_tools
    [ -f "$container" ] || fail 1 "$container: there is no such file"
    [ -r "$container" ] || fail 1 "$container: cannot be read"
    exec 3<"$container"
    read_header
    choose_output
    make_work
    load_private_key
    find_file_key
    if [ "$metadata_length" -gt 0 ]; then read_metadata; fi
    read_sections
    read_end
    publish
}

parse_arguments() {
    key='' passphrase='' envelope='' out='' force='' container=''
    while getopts i:p:e:o:fh option; do
        case $option in
            i) key=$OPTARG ;;
            p) passphrase=$OPTARG ;;
            e) envelope=$OPTARG ;;
            o) out=$OPTARG ;;
            f) force=1 ;;
            h) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
            *) usage ;;
        esac
    done
    shift $((OPTIND - 1))
    [ $# -eq 1 ] && [ -n "$key" ] || usage
    case $1 in
        *.enc) container=$1 ;;
        *) fail 2 "$1: is not a container: its name does not end in .enc" ;;
    esac
}

usage() {
    fail 2 "usage: -i KEY.pem [-p PASSPHRASE_FILE] [-e ENVELOPE] [-o OUT] [-f] NAME.enc" "-h says more"
}

check_tools() {
    version=$(openssl version 2>/dev/null) || fail 1 "the openssl command is not installed"
    case $version in
        'OpenSSL 0.'* | 'OpenSSL 1.'* | LibreSSL*)
            fail 1 "$version has no \`openssl kdf\` and \`openssl mac\`; OpenSSL 3 or newer is needed" \
                "restore.py needs no openssl command" ;;
    esac
}

# --- header (docs/format.md, "Header") --------------------------------------------------------------------------------

read_header() {
    size=$(($(wc -c <"$container")))
    header=$(dd bs=64 count=1 <&3 2>/dev/null | hex)
    case $header in
        534944454b455900*) ;;
        *) damaged "does not begin like a container" ;;
    esac
    [ ${#header} -eq 128 ] || damaged "ends inside its header"
    salt=$(slice "$header" 1-64) data_id=$(slice "$header" 33-64) commitment=$(slice "$header" 65-128)
    case $(slice "$header" 17-24) in
        0101*00) ;;
        01*00) damaged "has a cipher suite that this script does not know" ;;
        *00) damaged "has a version that this script does not know" ;;
        *) damaged "has a reserved byte that is not zero" ;;
    esac
    log2=$((0x$(slice "$header" 21-22)))
    [ "$log2" -ge 12 ] && [ "$log2" -le 24 ] || damaged "has an impossible section size"
    section_size=$((1 << log2))
    little_endian "$(slice "$header" 25-32)"
    metadata_length=$number
    [ "$metadata_length" -eq 0 ] || {
        [ "$metadata_length" -ge 304 ] && [ "$metadata_length" -le 65584 ] &&
            [ $(((metadata_length - 48) % 256)) -eq 0 ]
    } || damaged "has an impossible metadata length"
    left=$((size - 64)) at=64 index=0 total=0 type=file mode=-
}

# --- envelope (docs/format.md, "The envelope") ------------------------------------------------------------------------

load_private_key() {
    [ -f "$key" ] || fail 1 "$key: there is no such file"
    if [ -n "$passphrase" ]; then
        pem=$(openssl pkey -in "$key" -passin "file:$passphrase" 2>/dev/null)
    else
        pem=$(openssl pkey -in "$key")
    fi || {
        # The parameters stand before everything else; openssl's own limit is no wrong passphrase.
        ! openssl asn1parse -in "$key" 2>/dev/null | grep -q ':scrypt' ||
            fail 1 "$key: cannot be opened: the passphrase is wrong, or scrypt asks for more than OpenSSL's 32 MiB" \
                "scripts/restore.py opens such keys"
        fail 1 "$key: is not a private key, or the passphrase is wrong"
    }
    own_id=$(printf '%s\n' "$pem" | openssl pkey -pubout -outform DER | openssl dgst -sha256 -binary | hex)
}

# The private key goes to openssl through a pipe, so that it is neither an argument nor a file.
find_file_key() {
    base=${container%.enc}
    found='' entries=0 own=0 opened=0 bad_envelope=''
    if [ -n "$envelope" ]; then
        set -- "$envelope"
    else
        set -- "$base.$(slice "$data_id" 1-16).key.enc" "$base.key.enc"
    fi
    for name in "$@"; do
        [ -f "$name" ] || continue
        found=1
        if ! read_envelope "$name" >"$work/entries"; then
            bad_envelope=$name
            continue
        fi
        while read -r recipient block; do
            entries=$((entries + 1))
            [ "$recipient" != "$own_id" ] || own=1
            try_entry "$block" && return
        done <"$work/entries"
    done
    [ -n "$found" ] || damaged "has no envelope beside it" "name it with -e FILE"
    [ "$opened" -eq 0 ] || damaged "the file key in the envelope does not match the commitment of the container"
    [ -z "$bad_envelope" ] || fail 3 "$bad_envelope: is not a sound envelope"
    [ "$entries" -gt 0 ] || damaged "no envelope beside it belongs to it"
    [ "$own" -eq 0 ] || damaged "the envelope is damaged: the entry for this key does not open"
    fail 1 "$container: is not wrapped for this key"
}

try_entry() {
    printf '%s\n' "$1" | openssl base64 -d -A >"$work/block" 2>/dev/null || return 1
    secret=$(printf '%s\n' "$pem" | openssl pkeyutl -decrypt -inkey /dev/stdin -in "$work/block" \
        -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256 \
        -pkeyopt "rsa_oaep_label:736964656b65792f3120$data_id" 2>/dev/null | hex)
    [ ${#secret} -eq 64 ] || return 1
    opened=$((opened + 1))
    [ "$(derive commit)" = "$commitment" ] || return 1
    mac_key=$(derive mac) enc_key=$(derive encrypt) secret=''
}

derive() {
    openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt "hexkey:$secret" -kdfopt "hexsalt:$salt" \
        -kdfopt "info:sidekey/1 $1" -binary HKDF | hex
}

# Prints `RECIPIENT BASE64` for each entry of this container; fails when the file is no envelope.
read_envelope() {
    [ "$(($(wc -c <"$1")))" -le 1048576 ] || return 1
    [ "$(tr -d '\012\015\040-\176' <"$1" | wc -c)" -eq 0 ] || return 1
    awk -v data_id="$data_id" '
        { sub(/\r$/, "") }
        label == "" && /^-----BEGIN .+-----$/ {
            label = substr($0, 12, length($0) - 16); body = 0; block = ""; split("", header); next
        }
        label == "" { if ($0 != "") exit (bad = 1); next }
        $0 == "-----END " label "-----" {
            if (++blocks > 1024 || (label == "SIDEKEY INFO" && ++infos > 1)) exit (bad = 1)
            if (label == "SIDEKEY WRAPPED KEY") entry()
            label = ""; next
        }
        label != "SIDEKEY WRAPPED KEY" { next }
        !body && $0 == "" { body = 1; next }
        !body {
            colon = index($0, ": "); name = substr($0, 1, colon - 1); value = substr($0, colon + 2)
            if (name !~ /^[A-Za-z0-9-]+$/ || value !~ /^[^ ]/ || value ~ / $/ || name in header) exit (bad = 1)
            header[name] = value; next
        }
        { if ($0 !~ /^[A-Za-z0-9+\/]+=?=?$/) exit (bad = 1); block = block $0 }
        function is_hex(text, length_) { return length(text) == length_ && text !~ /[^0-9a-f]/ }
        function entry() {
            if (!body || block ~ /=[^=]/ || length(block) % 4) exit (bad = 1)
            if (!is_hex(header["Data-Id"], 32) || !is_hex(header["Recipient"], 64)) exit (bad = 1)
            if (!("Wrap" in header)) exit (bad = 1)
            if (header["Data-Id"] == data_id && header["Wrap"] == "rsa-oaep-sha256") print header["Recipient"], block
        }
        END { exit bad || label != "" }
    ' <"$1"
}

# --- sections (docs/format.md, "Sections") ----------------------------------------------------------------------------

read_metadata() {
    [ "$left" -ge $((metadata_length + 96)) ] || truncated
    section 1 "$metadata_length" $((metadata_length - 48)) $((metadata_length - 48))
    [ "$(($(tr -d '\000-\010\013\014\016-\037' <"$work/plain" | wc -c)))" -eq "$plain_length" ] ||
        damaged "metadata: control characters"
    fields=$(json_fields <"$work/plain") || damaged "metadata: is not what the format says"
    type=${fields% *} mode=${fields#* }
    note "metadata: $(tr -s '\000-\040\177' ' ' <"$work/plain")"
}

# Every part reads its bytes from descriptor 3 with one `dd` of exactly their length, so nothing is read twice.
read_sections() {
    : >"$work/out"
    full=$((section_size + 48))
    while [ "$left" -ne 96 ]; do
        [ "$left" -ge 144 ] && [ $((left % 16)) -eq 0 ] || truncated
        if [ "$left" -ge $((full + 96)) ]; then
            section 2 "$full" "$section_size" "$section_size"
        else
            section 2 $((left - 96)) 1 $((section_size - 1))
        fi
        total=$((total + plain_length))
        cat "$work/plain" >>"$work/out" || fail 1 "$out: cannot be written"
    done
}

read_end() {
    section 3 96 48 48
    end=$(hex <"$work/plain")
    little_endian "$(slice "$end" 1-12)"
    if [ "$(slice "$end" 13-16)" != 0000 ]; then number=-1; fi
    [ "$number" -eq "$total" ] || damaged "end section: its length is not that of the plaintext, $total bytes"
    case $(slice "$end" 17-32) in
        0000000000000000)
            [ -z "$(slice "$end" 33-96 | tr -d 0)" ] || damaged "end section: fields that are not zero" ;;
        0100000000000000)
            [ "$(openssl dgst -sha256 -binary <"$work/out" | hex)" = "$(slice "$end" 33-96)" ] ||
                damaged "the digest of the plaintext is not that of the end section" ;;
        *) damaged "end section: unknown digest algorithm or fields that are not zero" ;;
    esac
    [ "$(dd bs=1 count=1 <&3 2>/dev/null | wc -c)" -eq 0 ] || damaged "grew while it was read"
    [ "$type" = file ] || [ "$total" -eq 0 ] || damaged "is a $type and has data sections"
}

# section KIND LENGTH SHORTEST LONGEST: leaves the plaintext of the next section in $work/plain, after its tag was found
# good. A wrong tag, a wrong padding and a wrong length are one and the same error.
section() {
    ciphertext_length=$(($2 - 32))
    dd bs=$(($2 - 16)) count=1 <&3 >"$work/section" 2>/dev/null
    dd bs=16 count=1 <&3 >"$work/tag" 2>/dev/null
    [ "$(($(wc -c <"$work/tag")))" -eq 16 ] || truncated
    framing=''
    octal 8 "$index"
    octal 4 "$1"
    octal 4 "$ciphertext_length"
    { printf "$framing"; cat "$work/section"; } |
        openssl mac -cipher AES-256-CBC -macopt "hexkey:$mac_key" -binary CMAC 2>/dev/null |
        cmp -s - "$work/tag" || unauthentic
    iv=$(od -An -v -tx1 -N16 "$work/section" | tr -d ' \n')
    tail -c +17 "$work/section" |
        openssl enc -d -aes-256-cbc -K "$enc_key" -iv "$iv" >"$work/plain" 2>/dev/null || unauthentic
    plain_length=$(($(wc -c <"$work/plain")))
    [ "$plain_length" -ge "$3" ] && [ "$plain_length" -le "$4" ] || unauthentic
    index=$((index + 1)) at=$((at + $2)) left=$((left - $2))
}

truncated() { damaged "ends early: what is left at byte $at cannot be a section and the end section"; }
unauthentic() { damaged "section $index at byte $at fails authentication"; }

# --- bytes and numbers ------------------------------------------------------------------------------------------------

hex() { od -An -v -tx1 | tr -d ' \n'; }

# slice HEX FIRST-LAST: digits, counted from 1.
slice() { printf '%s\n' "$1" | cut -c "$2"; }

# little_endian HEX: sets number.
little_endian() {
    number=0 rest=$1
    while [ -n "$rest" ]; do
        number=$((number * 256 + 0x${rest#"${rest%??}"})) rest=${rest%??}
    done
}

# octal COUNT VALUE: appends VALUE as COUNT little-endian bytes to framing, in the notation of printf.
octal() {
    count=$1 value=$2
    while [ "$count" -gt 0 ]; do
        framing=$framing\\$((value >> 6 & 3))$((value >> 3 & 7))$((value & 7))
        value=$((value >> 8)) count=$((count - 1))
    done
}

# --- metadata (docs/format.md, "Metadata") ----------------------------------------------------------------------------

# Prints `type mode` (`-` where there is none) of a JSON object; fails when it is not the metadata of version 1.
json_fields() {
    awk '
        { text = text $0 "\n" }
        END {
            pos = 1; blank()
            if (substr(text, pos, 1) != "{" || !utf8(text)) exit 1
            value("."); blank()
            if (failed || pos <= length(text) || top[".v"] != "n1") exit 1
            if (top[".type"] !~ /^s(file|dir|symlink)$/) exit 1
            if ((".mode" in top) && top[".mode"] !~ /^s0*[0-7]?[0-7]?[0-7]?[0-7]$/) exit 1
            if ((".mtime" in top) && (top[".mtime"] !~ /^s-?[0-9]+$/ || length(top[".mtime"]) - (top[".mtime"] ~ /^s-/) > 39)) exit 1
            if (wrong("name") || wrong("target")) exit 1
            if (top[".type"] == "ssymlink" && !has("target")) exit 1
            print substr(top[".type"], 2), (".mode" in top) ? substr(top[".mode"], 2) : "-"
        }
        function wrong(name,    text, b64) {
            text = "." name; b64 = "." name "_b64"
            if ((text in top) && (b64 in top || top[text] !~ /^s/)) return 1
            return (b64 in top) && (top[b64] !~ /^s[A-Za-z0-9+\/]*=?=?$/ || length(top[b64]) % 4 != 1)
        }
        function has(name) { return top["." name] ~ /^s./ || top["." name "_b64"] ~ /^s./ }
        function blank() { while (substr(text, pos, 1) ~ /^[ \t\r\n]$/) pos++ }
        function take(wanted) {
            blank()
            if (substr(text, pos, 1) != wanted) return 0
            pos++; blank()
            return 1
        }
        # Takes one value and returns its kind (n, s, a, o) and text. Every object has a path of its own, "." for the
        # outermost, under which its members stand in top.
        function value(path,    rest) {
            if (failed || ++depth > 100) { failed = 1; return "" }
            blank()
            rest = substr(text, pos, 400)
            if (take("{")) rest = members(path)
            else if (take("[")) rest = items()
            else if (rest ~ /^"/) rest = "s" string()
            else if (match(rest, /^(true|false|null|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?)/)) {
                pos += RLENGTH; rest = "n" substr(rest, 1, RLENGTH)
            } else failed = 1
            depth--
            return rest
        }
        function members(path,    name, member) {
            if (take("}")) return "o"
            do {
                name = string()
                if (!take(":") || (path name) in top) failed = 1
                top[path name] = ""
                member = value(++objects ":")
                top[path name] = member
            } while (!failed && take(","))
            if (!take("}")) failed = 1
            return "o"
        }
        function items() {
            if (take("]")) return "a"
            do value(++objects ":"); while (!failed && take(","))
            if (!take("]")) failed = 1
            return "a"
        }
        function string(    out, c) {
            if (substr(text, pos, 1) != "\"") { failed = 1; return "" }
            for (pos++; (c = substr(text, pos, 1)) != "\""; pos++) {
                if (c == "" || c ~ /^[\n\t\r]$/) { failed = 1; return "" }
                if (c == "\\") {
                    c = substr(text, ++pos, 1)
                    if (c == "u") {
                        c = substr(text, pos + 1, 4); pos += 4
                        if (c !~ /^[0-9a-fA-F][0-9a-fA-F][0-9a-fA-F][0-9a-fA-F]$/) { failed = 1; return "" }
                        # the second half of a surrogate pair stands behind the first, and nowhere else
                        if ((out ~ /\\ud[89ab]..$/) != (c ~ /^[dD][c-fC-F]/)) { failed = 1; return "" }
                        c = unicode(c)
                    } else if (c == "n" || c == "t" || c == "r" || c == "b" || c == "f") c = "\\" c
                    else if (c != "\"" && c != "\\" && c != "/") { failed = 1; return "" }
                }
                if (out ~ /\\ud[89ab]..$/ && c !~ /^\\ud[c-f]/) { failed = 1; return "" }
                out = out c
            }
            if (out ~ /\\ud[89ab]..$/) failed = 1
            pos++; return out
        }
        # a printable ASCII character as itself, so that a key is recognised however it is spelt
        function unicode(digits,    code, i) {
            for (i = 1; i <= 4; i++) code = code * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
            return code >= 32 && code < 127 ? sprintf("%c", code) : "\\u" tolower(digits)
        }
        function utf8(bytes) {
            gsub(/[\302-\337][\200-\277]/, "?", bytes)
            gsub(/\340[\240-\277][\200-\277]/, "?", bytes)
            gsub(/[\341-\354\356\357][\200-\277][\200-\277]|\355[\200-\237][\200-\277]/, "?", bytes)
            gsub(/\360[\220-\277][\200-\277][\200-\277]|[\361-\363][\200-\277][\200-\277][\200-\277]/, "?", bytes)
            gsub(/\364[\200-\217][\200-\277][\200-\277]/, "?", bytes)
            return bytes !~ /[\200-\377]/
        }
    '
}

# --- output -----------------------------------------------------------------------------------------------------------

# Names are undone only as far as a shell does it safely; for the others -o is needed.
choose_output() {
    if [ -z "$out" ]; then
        name=${container##*/} out=${container%"${container##*/}"}
        name=${name%.enc}
        without_tildes=$name
        while [ "$without_tildes" != "${without_tildes%\~}" ]; do without_tildes=${without_tildes%\~}; done
        case $name in
            '' | . | .. | .folder | *.key | %b64~*) fail 2 "$container: say with -o FILE where to restore it" ;;
        esac
        case $without_tildes in
            .folder | *.key) name=${name%\~} ;;
        esac
        out=$out$name
    fi
    case $out in
        /* | ./* | ../*) ;;
        *) out=./$out ;;
    esac
    [ ! -d "$out" ] || fail 1 "$out: is a folder" "say with -o FILE what to make"
    [ -n "$force" ] || { [ ! -e "$out" ] && [ ! -h "$out" ]; } || fail 1 "$out: exists already" "-f replaces it"
}

# A private folder beside the output: what is in it can be renamed to its place, and goes with one command.
make_work() {
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM HUP
    work=$(mktemp -d "${out%/*}/.sidekey-restore.XXXXXXXX") || fail 1 "${out%/*}: cannot be written to"
}

publish() {
    if [ "$type" != file ]; then
        note "$container: is a $type, as its metadata says; this script makes files only" "restore.py makes it"
        exit 0
    fi
    if [ "$mode" != - ]; then chmod "$(printf '%o' "$((0$mode & 0777))")" "$work/out"; fi
    sync "$work/out" 2>/dev/null
    if [ -n "$force" ]; then
        mv -f "$work/out" "$out"
    else
        # unlike mv, ln never replaces what came there in the meantime; but not every file system knows hard links
        ln "$work/out" "$out" 2>/dev/null || { [ ! -e "$out" ] && [ ! -h "$out" ] && mv "$work/out" "$out"; }
    fi || fail 1 "$out: exists already, or cannot be made"
    note "$out: $total bytes, all sections and the end were good"
}

note() {
    printf 'restore-with-openssl: %s\n' "$1" >&2
    if [ $# -gt 1 ]; then printf 'restore-with-openssl: hint: %s\n' "$2" >&2; fi
}

damaged() { fail 3 "$container: $1" ${2+"$2"}; }

# fail STATUS MESSAGE [HINT]
fail() {
    status=$1
    shift
    note "$@"
    exit "$status"
}

main "$@"
