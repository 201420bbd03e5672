//go:build wasip1

// Package runtime is what generated bindings call: memory that crosses the border to the host, and handles.
//
// It is made after the runtime of wit-bindgen's Go generator (Apache-2.0 WITH LLVM-exception), with these changes:
//
//   - What the host hands over is written into blocks that were allocated beforehand. Allocating while the host waits for
//     memory may start the garbage collector, and with it other goroutines, which must not call the host then.
//   - What was handed over is kept alive until it has been read, and not until the next call of an export: a body of
//     100 MiB that is read piece by piece takes no 100 MiB.
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

// What the host hands over: the rest of a block, and larger pieces by themselves.
var (
	block  = make([]uint64, blockSize/8)
	used   uintptr
	pieces Pinner

	// Calls of the host that haven't read what they were handed yet. With goroutines there may be several.
	active  int
	pinners []*Pinner
)

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
	pieces.Unpin()
	// What has been read lies in the block still, and keeps it alive as long as somebody has it.
	if blockSize-used < reserve {
		block = make([]uint64, blockSize/8)
		used = 0
	}
}

// The host may ask for memory before Go has begun: the adapter's own stack and state.
var begun = false

func init() {
	begun = true
}

//go:linkname sbrk runtime.sbrk
func sbrk(n uintptr) unsafe.Pointer

// While the host waits for memory nothing may be called but this, which has the adapter answer with the time it told last:
// the garbage collector looks at the clock.
//
//go:wasmimport wasi_snapshot_preview1 adapter_monotonic_clock_set_paused
func adapterMonotonicClockSetPaused(paused bool)

//go:wasmexport cabi_realloc
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uintptr) unsafe.Pointer {
	if old != nil || oldSize != 0 {
		panic("the host asks for another size")
	}
	if !begun {
		memory := uintptr(sbrk(size + align))
		return unsafe.Add(unsafe.Pointer(nil), (memory+align-1)&^(align-1))
	}
	if start := (used + align - 1) &^ (align - 1); start+size <= blockSize {
		used = start + size
		return unsafe.Add(unsafe.Pointer(unsafe.SliceData(block)), start)
	}
	adapterMonotonicClockSetPaused(true)
	pointer := Allocate(&pieces, size, align)
	adapterMonotonicClockSetPaused(false)
	return pointer
}
