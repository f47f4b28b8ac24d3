package config

import "reflect"

// clone copies v so deep that decoding into the copy leaves v as it is. What
// only a type's own UnmarshalText fills is copied as it stands.
func clone(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			p := reflect.New(v.Type().Elem())
			p.Elem().Set(clone(v.Elem()))
			out.Set(p)
		}
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(clone(v.Index(i)))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
			for it := v.MapRange(); it.Next(); {
				out.SetMapIndex(it.Key(), clone(it.Value()))
			}
		}
	case reflect.Struct:
		cloneFields(out, v)
	}
	return out
}

func cloneFields(out, v reflect.Value) {
	for i := range v.NumField() {
		f := out.Field(i)
		switch {
		case f.CanSet():
			f.Set(clone(v.Field(i)))
		case v.Type().Field(i).Anonymous && f.Kind() == reflect.Struct:
			cloneFields(f, v.Field(i)) // keys of an embedded struct with an unexported name
		}
	}
}
