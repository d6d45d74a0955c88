package record

// The two forms that direct.go writes and reads, by encoding/json alone: what
// they are compared with.
var (
	plainBirths     = form[Birth]{schema: births.schema}
	plainValidators = form[Validator]{schema: validators.schema}
)

func PlainEncodeBirth(b Birth) ([]byte, error)         { return plainBirths.encode(b) }
func PlainDecodeBirth(data []byte) (Birth, error)      { return plainBirths.decode(data) }
func PlainEncodeValidator(v Validator) ([]byte, error) { return plainValidators.encode(v) }
func PlainDecodeValidator(b []byte) (Validator, error) { return plainValidators.decode(b) }

// ReadBirth is the reader of births alone: whether it reads some bytes at all.
func ReadBirth(data []byte) bool { _, ok := readBirth(data[len(births.opening()):]); return ok }

// ReadValidator is the reader of validators alone.
func ReadValidator(data []byte) bool {
	_, ok := readValidator(data[len(validators.opening()):])
	return ok
}
