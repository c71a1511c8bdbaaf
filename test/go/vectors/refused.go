package vectors

import (
	"encoding/hex"

	"hsm-kms-plugin/test/ciphertext"
)

const (
	invalid      = "INVALID_ARGUMENT"
	precondition = "FAILED_PRECONDITION"
)

// refused lists what must not be decrypted, in the order of the checks.
func refused() []Refused {
	plain := []byte(value)
	one := ciphertext.Seal(ciphertext.GCM, keys[0].key, counting(0xd0, 12), plain)
	two := ciphertext.Seal(ciphertext.GCMTokenIV, keys[0].key, counting(0xd0, 16), plain)
	three := ciphertext.Seal(ciphertext.CBCThenMAC, keys[1].key, counting(0xd0, 16), plain)
	four := ciphertext.SealWithDataKey(ciphertext.GCM, keys[0].key, dataKey, counting(0xe0, 12), counting(0xf0, 12), plain)
	id := keys[0].key.ID()

	var all []Refused
	add := func(name, status string, bytes []byte) {
		all = append(all, Refused{Name: name, Ciphertext: hex.EncodeToString(bytes), Status: status})
	}
	addKeyed := func(name string, bytes []byte) {
		all = append(all, Refused{Name: name, Ciphertext: hex.EncodeToString(bytes), Status: invalid, NeedsKey: true})
	}

	add("empty", invalid, nil)
	add("shorter than the magic", invalid, one[:7])
	add("another magic, 80 bytes", invalid, counting(0x01, 80))
	add("another magic, 144 bytes", invalid, counting(0x01, 144))
	add("magic of which the last byte differs", invalid, with(one, 7, 0x0d))
	add("no version", invalid, one[:8])
	add("unknown version 0", precondition, with(one, 8, 0))
	add("unknown version 2", precondition, with(one, 8, 2))
	add("unknown version and nothing after it", precondition, with(one[:9], 8, 2))
	add("no scheme", invalid, one[:9])
	add("unknown scheme 0", precondition, with(one, 9, 0))
	add("unknown scheme 5", precondition, with(one, 9, 5))
	add("unknown scheme and nothing after it", precondition, with(one[:10], 9, 5))
	add("key id cut short", invalid, one[:25])
	add("header alone", invalid, one[:26])
	add("scheme 1 without room for IV and tag", invalid, one[:26+12+15])
	add("scheme 2 without room for IV and tag", invalid, two[:26+16+15])
	add("scheme 3 without room for IV, one block and MAC", invalid, three[:26+16+16+31])
	add("scheme 3, not whole blocks", invalid, three[:len(three)-1])
	add("scheme 4 without inner scheme", invalid, four[:26])
	add("scheme 4, inner scheme 0", precondition, with(four, 26, 0))
	add("scheme 4, inner scheme 4", precondition, with(four, 26, 4))
	add("scheme 4, inner scheme 5", precondition, with(four, 26, 5))
	add("scheme 4, inner scheme 5 and nothing after it", precondition, with(four[:27], 26, 5))
	add("scheme 4, length of the sealed key cut short", invalid, four[:28])
	add("scheme 4, sealed key one byte short", invalid, with(four, 28, 59))
	add("scheme 4, sealed key one byte long", invalid, with(four, 28, 61))
	add("scheme 4, inner scheme 2 with the length of 1", invalid, with(four, 26, 2))
	add("scheme 4, length of the sealed key past the end", invalid, with(four, 27, 0xff))
	add("scheme 4 without room for outer IV and tag", invalid, four[:26+3+60+27])
	add("lengths wrong and key not listed", invalid, with(one[:40], 10, one[10]^1))
	add("retired key", invalid, ciphertext.Seal(ciphertext.GCM, retired, counting(0xd0, 12), plain))
	add("key not listed", precondition, ciphertext.Seal(ciphertext.GCM, unlisted, counting(0xd0, 12), plain))
	add("key id with one bit flipped", precondition, with(one, 10, one[10]^1))
	add("scheme 3 under the id of an AES key alone", precondition,
		append(append(append([]byte{}, with(three, 9, 3)[:10]...), id[:]...), three[26:]...))

	addKeyed("scheme 1, IV with one bit flipped", with(one, 26, one[26]^1))
	addKeyed("scheme 1, ciphertext with one bit flipped", with(one, 38, one[38]^1))
	addKeyed("scheme 1, tag with one bit flipped", with(one, len(one)-1, one[len(one)-1]^1))
	addKeyed("scheme 1 with a trailing byte", append(append([]byte{}, one...), 0))
	addKeyed("scheme 1, last byte missing", one[:len(one)-1])
	addKeyed("scheme 1 relabelled as 2", with(one, 9, 2))
	addKeyed("scheme 2 relabelled as 1", with(two, 9, 1))
	addKeyed("scheme 2, tag with one bit flipped", with(two, len(two)-1, two[len(two)-1]^1))
	addKeyed("scheme 3, IV with one bit flipped", with(three, 26, three[26]^1))
	addKeyed("scheme 3, ciphertext with one bit flipped", with(three, 42, three[42]^1))
	addKeyed("scheme 3, MAC with one bit flipped", with(three, len(three)-1, three[len(three)-1]^1))
	addKeyed("scheme 4, sealed key with one bit flipped", with(four, 29+20, four[29+20]^1))
	addKeyed("scheme 4, outer tag with one bit flipped", with(four, len(four)-1, four[len(four)-1]^1))
	addKeyed("scheme 4, outer IV with one bit flipped", with(four, 26+3+60, four[26+3+60]^1))
	addKeyed("scheme 4, the sealed key cut out and given as a value of scheme 1", append(with(four, 9, 1)[:26], four[29:29+60]...))
	return all
}

// with is a copy of bytes in which one byte differs.
func with(bytes []byte, at int, b byte) []byte {
	out := append([]byte(nil), bytes...)
	out[at] = b
	return out
}
