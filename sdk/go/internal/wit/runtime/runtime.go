//go:build wasip1

// Package runtime is what generated bindings call: memory that crosses the border to the host, and handles.
//
// It is made after the runtime of wit-bindgen's Go generator (Apache-2.0 WITH LLVM-exception), with these changes:
//
//   - Nothing is allocated while the host waits for memory to hand something over in. That could run the garbage collector,
//     which looks at the clock, or another goroutine; both call the host, which must not be called then and has the function
//     trap. So small things go into a block that was allocated beforehand, and large ones beside Go's heap.
//   - What was handed over is kept until it has been read, and not until the next call of an export: a body of 100 MiB that
//     is read piece by piece takes no 100 MiB.
//   - Memory that the host reads is kept alive by a reference. Go's heap doesn't move, so it needs no more pinning.
package runtime

import (
	"fmt"
	"unsafe"
)

// A Handle is a resource's index in the table the host keeps, and 0 once it has been given away.
type Handle struct {
	value int32
}

// Use answers with the index.
func (h *Handle) Use() int32 {
	if h.value == 0 {
		panic("nil handle")
	}
	return h.value
}

// Take gives the resource away.
func (h *Handle) Take() int32 {
	value := h.Use()
	h.value = 0
	return value
}

// Set makes it a resource's.
func (h *Handle) Set(value int32) {
	if value == 0 {
		panic("nil handle")
	}
	if h.value != 0 {
		panic("handle already set")
	}
	h.value = value
}

// TakeOrNil gives the resource away if that hasn't happened.
func (h *Handle) TakeOrNil() int32 {
	value := h.value
	h.value = 0
	return value
}

// MakeHandle makes one.
func MakeHandle(value int32) *Handle {
	if value == 0 {
		panic("nil handle")
	}
	return &Handle{value}
}

// A Pinner keeps memory alive that only the host knows of.
type Pinner struct {
	kept []unsafe.Pointer
}

// Pin keeps what is there until Unpin.
func (p *Pinner) Pin(pointer unsafe.Pointer) {
	if pointer != nil {
		p.kept = append(p.kept, pointer)
	}
}

// Unpin lets go of everything.
func (p *Pinner) Unpin() {
	clear(p.kept)
	p.kept = p.kept[:0]
}

// Allocate makes memory the host is to read or write.
func Allocate(pinner *Pinner, size, align uintptr) unsafe.Pointer {
	pointer := allocate(size, align)
	pinner.Pin(pointer)
	return pointer
}

// No pointers that Go knows of are in there, so the type says nothing but the alignment.
func allocate(size, align uintptr) unsafe.Pointer {
	if size == 0 {
		return nil
	}
	switch align {
	case 1, 2, 4, 8:
		// Go aligns 8 bytes and more by 8, where they hold no pointers: of words, so that it knows.
		return unsafe.Pointer(unsafe.SliceData(make([]uint64, (size+7)/8)))
	default:
		panic(fmt.Sprintf("unsupported alignment: %v", align))
	}
}

const (
	// Most of what is handed over is smaller than this, and goes into a block.
	blockSize = 16 << 10
	// What is left of a block before another is made, outside of the host's request for memory.
	reserve = 8 << 10
)

// What the host hands over lies in a block of Go's, where it stays as long as somebody has it; what doesn't fit is put beside
// Go's heap, from where it is copied when it is read.
var (
	block = make([]uint64, blockSize/8)
	used  uintptr

	// Used anew as soon as everything has been read. An array, since appending would allocate. Each is larger than the one
	// before, so that there are enough.
	regions [48]region
	made    int

	// Calls of the host that haven't read what they were handed yet. With goroutines there may be several.
	active  int
	pinners []*Pinner
)

type region struct {
	base, size, used uintptr
}

// Begin is called before the host is.
func Begin() *Pinner {
	active++
	if last := len(pinners) - 1; last >= 0 {
		pinner := pinners[last]
		pinners = pinners[:last]
		return pinner
	}
	return new(Pinner)
}

// End is called when what the host answered has been read.
func End(pinner *Pinner) {
	pinner.Unpin()
	pinners = append(pinners, pinner)
	active--
	Unpin()
}

// Unpin is called when what an export was given has been read.
func Unpin() {
	if active > 0 {
		return
	}
	for i := range made {
		regions[i].used = 0
	}
	if blockSize-used < reserve {
		block = make([]uint64, blockSize/8)
		used = 0
	}
}

// String is a string that was handed over.
func String(start *uint8, length uint32) string {
	if beside(uintptr(unsafe.Pointer(start))) {
		return string(unsafe.Slice(start, length))
	}
	return unsafe.String(start, length)
}

// Slice is a list that was handed over.
func Slice[T any](start *T, length uint32) []T {
	list := unsafe.Slice(start, length)
	if beside(uintptr(unsafe.Pointer(start))) {
		return append(make([]T, 0, length), list...)
	}
	return list
}

func beside(start uintptr) bool {
	for i := range made {
		if start-regions[i].base < regions[i].size {
			return true
		}
	}
	return false
}

// The host may ask for memory before Go has begun: the adapter's own stack and state.
var begun = false

func init() {
	begun = true
}

//go:linkname sbrk runtime.sbrk
func sbrk(n uintptr) unsafe.Pointer

//go:wasmexport cabi_realloc
//go:nosplit
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uintptr) unsafe.Pointer {
	if old != nil || oldSize != 0 {
		// Nobody asks for another size of what they have.
		return nil
	}
	if !begun {
		return unsafe.Pointer(aligned(uintptr(sbrk(size+align)), align))
	}
	if start := aligned(used, align); start+size <= blockSize {
		used = start + size
		return unsafe.Add(unsafe.Pointer(unsafe.SliceData(block)), start)
	}
	for i := 0; i < made; i++ {
		region := &regions[i]
		if start := aligned(region.used, align); start+size <= region.size {
			region.used = start + size
			return unsafe.Pointer(region.base + start)
		}
	}
	if made == len(regions) {
		return nil
	}
	length := uintptr(64 << 10)
	if made > 0 {
		length = regions[made-1].size * 5 / 4
	}
	if length < size {
		length = size
	}
	length = aligned(length, 64<<10)
	base := uintptr(sbrk(length))
	if base == 0 {
		return nil
	}
	regions[made] = region{base, length, size}
	made++
	return unsafe.Pointer(base)
}

//go:nosplit
func aligned(offset, align uintptr) uintptr {
	return (offset + align - 1) &^ (align - 1)
}
