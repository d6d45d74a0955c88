package buckets

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/crc64"
	"net/http"
	"strconv"
	"strings"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/signature"
)

// Algorithms of checksums.
var algorithms = []string{"CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"}

// nvme is the polynomial of CRC64NVME, bits reversed.
var nvme = crc64.MakeTable(0x9a6c9329ac4bc9b5)

func checksum(algorithm string, data []byte) string {
	var sum []byte
	switch algorithm {
	case "CRC32":
		sum = binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(data))
	case "CRC32C":
		sum = binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
	case "CRC64NVME":
		sum = binary.BigEndian.AppendUint64(nil, crc64.Checksum(data, nvme))
	case "SHA1":
		s := sha1.Sum(data)
		sum = s[:]
	case "SHA256":
		s := sha256.Sum256(data)
		sum = s[:]
	}
	return base64.StdEncoding.EncodeToString(sum)
}

func checksumHeader(algorithm string) string {
	return "X-Amz-Checksum-" + strings.ToUpper(algorithm[:1]) + strings.ToLower(algorithm[1:])
}

// Streamed is what the SDK signs instead of a hash when the checksum follows
// the body.
const Streamed = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

// body returns what is to be stored, and its checksums, all of which were
// sent and are right; given is whether any was.
func body(r call.Request) (data []byte, checksums map[string]string, given bool, failure *call.Failure) {
	header := r.HTTP.Header
	data = r.Body
	if header.Get(signature.HashHeader) == Streamed {
		var trailer http.Header
		var err error
		if data, trailer, err = unchunk(r.Body); err != nil {
			return nil, nil, false, call.Refuse("IncompleteBody", "%v", err)
		}
		if want := header.Get("X-Amz-Decoded-Content-Length"); want != strconv.Itoa(len(data)) {
			return nil, nil, false, call.Refuse("IncompleteBody", "%d bytes, not %s", len(data), want)
		}
		named := header.Get("X-Amz-Trailer")
		if len(trailer) != 1 || trailer.Get(named) == "" {
			return nil, nil, false, call.Refuse("MalformedTrailerError", "the trailer is %v, not %q", trailer, named)
		}
		header = header.Clone()
		header.Set(named, trailer.Get(named))
	}
	checksums = map[string]string{}
	for _, algorithm := range algorithms {
		sent := header.Get(checksumHeader(algorithm))
		if sent == "" {
			continue
		}
		if sent != checksum(algorithm, data) {
			return nil, nil, false, call.Refuse("BadDigest", "The %s you specified did not match the calculated checksum.", algorithm)
		}
		checksums[algorithm] = sent
	}
	given = len(checksums) > 0
	if want := header.Get("Content-Md5"); want != "" {
		sum := md5.Sum(data)
		if want != base64.StdEncoding.EncodeToString(sum[:]) {
			return nil, nil, false, call.Refuse("BadDigest", "The Content-MD5 you specified did not match what we received.")
		}
		given = true
	}
	if len(checksums) > 1 {
		return nil, nil, false, call.Refuse("InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
	}
	if len(checksums) == 0 { // S3 keeps one of its own
		checksums["CRC64NVME"] = checksum("CRC64NVME", data)
	}
	return data, checksums, given, nil
}

// unchunk decodes aws-chunked: chunks of "SIZE\r\nDATA\r\n", the last of size
// zero, and a trailer of headers.
func unchunk(in []byte) (data []byte, trailer http.Header, err error) {
	for {
		line, rest, ok := bytes.Cut(in, []byte("\r\n"))
		if !ok {
			return nil, nil, fmt.Errorf("a chunk without a size")
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return nil, nil, fmt.Errorf("a chunk of %q bytes", line)
		}
		if size == 0 {
			in = rest
			break
		}
		if uint64(len(rest)) < size+2 || string(rest[size:size+2]) != "\r\n" {
			return nil, nil, fmt.Errorf("a chunk that is cut short")
		}
		data, in = append(data, rest[:size]...), rest[size+2:]
	}
	trailer = http.Header{}
	for {
		line, rest, ok := bytes.Cut(in, []byte("\r\n"))
		if !ok {
			return nil, nil, fmt.Errorf("a trailer that is cut short")
		}
		if in = rest; len(line) == 0 {
			break
		}
		name, value, ok := strings.Cut(string(line), ":")
		if !ok {
			return nil, nil, fmt.Errorf("a trailer %q", line)
		}
		trailer.Set(name, strings.TrimSpace(value))
	}
	if len(in) > 0 {
		return nil, nil, fmt.Errorf("%d bytes behind the trailer", len(in))
	}
	return data, trailer, nil
}
