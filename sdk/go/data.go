package dunlin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// How data becomes a value and back. What the bytes are follows from the event's content type: JSON where it says so or
// there is none, else text if they are UTF-8, else bytes.

// isJSON says whether a content type is JSON: application/json, text/json, application/cloudevents+json, with parameters or
// without. CloudEvents without one are JSON.
func isJSON(contentType string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	return mediaType == "" || strings.HasSuffix(mediaType, "+json") || strings.HasSuffix(mediaType, "/json")
}

func encodeData(contentType string, value any) (string, []byte, error) {
	if data, ok := value.([]byte); ok {
		if data == nil {
			return contentType, nil, nil
		}
		if contentType == "" {
			contentType = "application/octet-stream"
		}
		return contentType, data, nil
	}
	if isJSON(contentType) {
		data, err := toJSON(value)
		if err != nil {
			return "", nil, err
		}
		// Nothing, however it is called, is no data: CloudEvents don't tell the two apart.
		if string(data) == "null" {
			return contentType, nil, nil
		}
		if contentType == "" {
			contentType = "application/json"
		}
		return contentType, data, nil
	}
	if text := reflect.ValueOf(value); text.Kind() == reflect.String {
		return contentType, []byte(text.String()), nil
	}
	return "", nil, fmt.Errorf("data of the content type %s is made of a string or []byte, and not of %T", contentType, value)
}

// toJSON is json.Marshal without the escapes that are meant for pages of HTML.
func toJSON(value any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), nil
}

// A validator is a type that says itself whether its data makes sense.
type validator interface {
	Validate() error
}

func decodeData(contentType string, data []byte, into any) error {
	if err := readData(contentType, data, into); err != nil {
		return err
	}
	if validator, ok := into.(validator); ok {
		return validator.Validate()
	}
	return nil
}

func readData(contentType string, data []byte, into any) error {
	switch into := into.(type) {
	case *[]byte:
		*into = data
		return nil
	case *any:
		*into = readAny(contentType, data)
		return nil
	}
	kind := reflect.TypeOf(into).Elem().Kind()
	if data == nil {
		if kind == reflect.Pointer || reflect.TypeOf(into).Elem().Size() == 0 {
			return nil
		}
		return errors.New("it is not there")
	}
	if isJSON(contentType) {
		err := fromJSON(data, into)
		if err != nil && contentType == "" {
			if kind == reflect.String && utf8.Valid(data) {
				reflect.ValueOf(into).Elem().SetString(string(data))
				return nil
			}
			err = fmt.Errorf("%w; it has no content type, and is read as JSON", err)
		}
		return err
	}
	if kind == reflect.String && utf8.Valid(data) {
		reflect.ValueOf(into).Elem().SetString(string(data))
		return nil
	}
	return fmt.Errorf("its content type is `%s`, which is read as a string or []byte", contentType)
}

func readAny(contentType string, data []byte) any {
	if data == nil {
		return nil
	}
	var value any
	if isJSON(contentType) && json.Unmarshal(data, &value) == nil {
		return value
	}
	if utf8.Valid(data) {
		return string(data)
	}
	return data
}

// fromJSON is json.Unmarshal with errors that have the path to what is wrong: items[0].price: expected int, found string.
func fromJSON(data []byte, into any) error {
	err := json.Unmarshal(data, into)
	if err == nil {
		return nil
	}
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		path := pathAt(data, mismatch.Offset)
		text := fmt.Sprintf("expected %s, found %s", mismatch.Type, mismatch.Value)
		if path == "" {
			return errors.New(text)
		}
		return fmt.Errorf("%s: %s", path, text)
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("at byte %d: %w", syntax.Offset, err)
	}
	return err
}

// pathAt is the path of the value that ends, or begins, at an offset: items[0].price.
func pathAt(data []byte, offset int64) string {
	// Where the reader is in the objects and arrays it is in.
	type level struct {
		key     string
		index   int
		inside  bool // of an array
		keyNext bool
	}
	var levels []level
	path := func() string {
		text := strings.Builder{}
		for _, level := range levels {
			switch {
			case level.inside:
				text.WriteString("[" + strconv.Itoa(level.index) + "]")
			case text.Len() > 0:
				text.WriteString("." + level.key)
			default:
				text.WriteString(level.key)
			}
		}
		return text.String()
	}
	next := func() {
		if len(levels) > 0 {
			top := &levels[len(levels)-1]
			top.index++
			top.keyNext = !top.inside
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if err != nil {
			if err != io.EOF {
				return path()
			}
			return ""
		}
		reached := decoder.InputOffset() >= offset
		switch delimiter, _ := token.(json.Delim); delimiter {
		case '{', '[':
			if reached {
				return path()
			}
			levels = append(levels, level{inside: delimiter == '[', keyNext: delimiter == '{'})
		case '}', ']':
			levels = levels[:len(levels)-1]
			if reached {
				return path()
			}
			next()
		default:
			if len(levels) > 0 && levels[len(levels)-1].keyNext {
				top := &levels[len(levels)-1]
				top.key, top.keyNext = token.(string), false
				if reached {
					return path()
				}
				continue
			}
			if reached {
				return path()
			}
			next()
		}
	}
}
