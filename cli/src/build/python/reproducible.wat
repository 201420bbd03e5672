;; A library that componentize-py links to Python's while a component is made (see `reproducible.rs`). Of what is the clock's,
;; chance's or the file system's it leaves nothing in the memory that is kept:
;;
;; - Before Python begins, it sets the seed of hashes, and has nothing written beside the sources. `dunlin/_build.py` writes a seed
;;   of the source's own in here, so that who doesn't know the source can't tell which keys have the same hash.
;;   And Python looks for its first module where `dunlin/_finder.py` is, which doesn't list folders.
;; - As long as the component is made, memory is empty when Python gets it, and is emptied when Python gives it back. Else the
;;   times and the numbers of files would stay in the gaps between its objects.
;; - When Python loads it as a module, at the end, memory is given out as ever.
(module
  (@dylink.0 (mem-info (memory 272 2) (table 4 0)) (needed "libc.so"))

  (import "env" "memory" (memory 1))
  (import "env" "__indirect_function_table" (table 4 funcref))
  (import "env" "__memory_base" (global $data i32))
  (import "env" "__table_base" (global $hooks i32))
  (import "GOT.mem" "__stack_chk_guard" (global $guard (mut i32)))
  (import "env" "setenv" (func $setenv (param $name i32) (param $value i32) (param $overwrite i32) (result i32)))
  (import "env" "malloc" (func $malloc (param $size i32) (result i32)))
  (import "env" "realloc" (func $realloc (param $at i32) (param $size i32) (result i32)))
  (import "env" "free" (func $free (param $at i32)))
  (import "env" "malloc_usable_size" (func $usable (param $at i32) (result i32)))
  (import "env" "PyMem_GetAllocator" (func $allocator (param $domain i32) (param $is i32)))
  (import "env" "PyMem_SetAllocator" (func $set_allocator (param $domain i32) (param $to i32)))
  (import "env" "PyModule_Create2" (func $module (param $definition i32) (param $api i32) (result i32)))

  ;; A `PyMemAllocatorEx` is a context and the places of malloc, calloc, realloc and free. At 0 there is ours, and at 20 those that
  ;; Python's three domains had. At 80 there is a `PyModuleDef`, with its name at 100 and its size, which is none, at 108.
  (data (i32.add (global.get $data) (i32.const 108)) "\ff\ff\ff\ff")
  (data (i32.add (global.get $data) (i32.const 132)) "PYTHONHASHSEED\00")
  (data (i32.add (global.get $data) (i32.const 148)) "0000000000\00")
  (data (i32.add (global.get $data) (i32.const 160)) "PYTHONDONTWRITEBYTECODE\00")
  (data (i32.add (global.get $data) (i32.const 184)) "1\00")
  (data (i32.add (global.get $data) (i32.const 188)) "PYTHONPATH\00")
  (data (i32.add (global.get $data) (i32.const 200)) "/2/first.zip:/python:/world:/0:/1:/2:/3:/bundled\00")
  (data (i32.add (global.get $data) (i32.const 252)) "_reproducible\00")
  (elem (global.get $hooks) func $on_malloc $on_calloc $on_realloc $on_free)

  (func (export "__wasm_call_ctors")
    (local $domain i32)
    (call $set (i32.const 132) (i32.const 148))
    (call $set (i32.const 160) (i32.const 184))
    (call $set (i32.const 188) (i32.const 200))
    ;; What protects the stack is the same in all sandboxes of a component; so it may be the same in all components.
    (i32.store (global.get $guard) (i32.const 0))
    (i32.store offset=4 (global.get $data) (global.get $hooks))
    (i32.store offset=8 (global.get $data) (i32.add (global.get $hooks) (i32.const 1)))
    (i32.store offset=12 (global.get $data) (i32.add (global.get $hooks) (i32.const 2)))
    (i32.store offset=16 (global.get $data) (i32.add (global.get $hooks) (i32.const 3)))
    (loop $each
      (call $allocator (local.get $domain) (call $kept (local.get $domain)))
      (call $set_allocator (local.get $domain) (global.get $data))
      (local.set $domain (i32.add (local.get $domain) (i32.const 1)))
      (br_if $each (i32.lt_u (local.get $domain) (i32.const 3)))))

  (func $set (param $name i32) (param $value i32)
    (drop (call $setenv
      (i32.add (global.get $data) (local.get $name)) (i32.add (global.get $data) (local.get $value)) (i32.const 1))))

  ;; Where the allocator of a domain is kept.
  (func $kept (param $domain i32) (result i32)
    (i32.add (global.get $data) (i32.add (i32.const 20) (i32.mul (local.get $domain) (i32.const 20)))))

  (func (export "PyInit__reproducible") (result i32)
    (local $domain i32)
    (loop $each
      (call $set_allocator (local.get $domain) (call $kept (local.get $domain)))
      (local.set $domain (i32.add (local.get $domain) (i32.const 1)))
      (br_if $each (i32.lt_u (local.get $domain) (i32.const 3))))
    (i32.store offset=100 (global.get $data) (i32.add (global.get $data) (i32.const 252)))
    (call $module (i32.add (global.get $data) (i32.const 80)) (i32.const 1013)))

  (func $on_malloc (param $context i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (call $malloc (local.get $size)))
    (if (local.get $at)
      (then (memory.fill (local.get $at) (i32.const 0) (call $usable (local.get $at)))))
    (local.get $at))

  ;; Whoever calls it has looked whether so much memory can be.
  (func $on_calloc (param $context i32) (param $count i32) (param $size i32) (result i32)
    (call $on_malloc (local.get $context) (i32.mul (local.get $count) (local.get $size))))

  (func $on_realloc (param $context i32) (param $at i32) (param $size i32) (result i32)
    (local $to i32) (local $had i32) (local $has i32)
    (if (i32.eqz (local.get $at))
      (then (return (call $on_malloc (local.get $context) (local.get $size)))))
    (local.set $had (call $usable (local.get $at)))
    (local.set $to (call $realloc (local.get $at) (select (local.get $size) (i32.const 1) (local.get $size))))
    (if (local.get $to)
      (then
        (local.set $has (call $usable (local.get $to)))
        (if (i32.gt_u (local.get $has) (local.get $had))
          (then
            (memory.fill
              (i32.add (local.get $to) (local.get $had)) (i32.const 0) (i32.sub (local.get $has) (local.get $had)))))))
    (local.get $to))

  (func $on_free (param $context i32) (param $at i32)
    (if (local.get $at)
      (then
        (memory.fill (local.get $at) (i32.const 0) (call $usable (local.get $at)))
        (call $free (local.get $at))))))
