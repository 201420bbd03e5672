package dunlin

import (
	"encoding"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"time"
)

// Config reads a variable that has to be there: one the manifest names in allow.env, or a secret of allow.secrets. Both are
// environment variables, so os.Getenv has them too; this makes it a string, a bool, a number, a [time.Duration] or what
// unmarshals itself from text, and has an error that names the variable.
func Config[T any](name string) (T, error) {
	var value T
	text, ok := os.LookupEnv(name)
	if !ok {
		return value, fmt.Errorf("`%s` is not set: name it in the manifest's `allow.env` or `allow.secrets`", name)
	}
	if err := parse(text, &value); err != nil {
		// The value stays out of the error: it may be a secret.
		return value, fmt.Errorf("`%s` is no `%s`: %w", name, typeName(reflect.TypeFor[T]()), err)
	}
	return value, nil
}

// ConfigOr reads a variable, or answers with what counts where it is not set.
func ConfigOr[T any](name string, otherwise T) (T, error) {
	if _, ok := os.LookupEnv(name); !ok {
		return otherwise, nil
	}
	return Config[T](name)
}

func parse(text string, into any) error {
	switch into := into.(type) {
	case encoding.TextUnmarshaler:
		return into.UnmarshalText([]byte(text))
	case *time.Duration:
		duration, err := time.ParseDuration(text)
		*into = duration
		if err != nil {
			return errors.New("write it as 200ms or 1m30s")
		}
		return nil
	}
	var err error
	value := reflect.ValueOf(into).Elem()
	switch {
	case value.Kind() == reflect.String:
		value.SetString(text)
	case value.Kind() == reflect.Bool:
		var truth bool
		truth, err = strconv.ParseBool(text)
		value.SetBool(truth)
	case value.CanInt():
		var number int64
		number, err = strconv.ParseInt(text, 10, value.Type().Bits())
		value.SetInt(number)
	case value.CanUint():
		var number uint64
		number, err = strconv.ParseUint(text, 10, value.Type().Bits())
		value.SetUint(number)
	case value.CanFloat():
		var number float64
		number, err = strconv.ParseFloat(text, value.Type().Bits())
		value.SetFloat(number)
	default:
		return errors.New("it can't be made of text")
	}
	var number *strconv.NumError
	if errors.As(err, &number) {
		return number.Err
	}
	return err
}
