package check

// SecretOf is the buffer that a foreign key is held in.
func SecretOf(i *Importable) []byte { return i.secret.Expose() }
