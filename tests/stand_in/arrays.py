"""The stand-in's arrays: no NumPy arrays, on a device that NumPy's functions are dispatched to and host arrays are not.

The names are CuPy 14's, with its arguments; what is not here raises AttributeError, where CuPy has it and where not.
"""

import operator

import numpy as np

from gemm.dtypes import low
from tests.stand_in.memory import QUEUE, Memory, MemoryPointer, at, get_current_stream

# NumPy's ufuncs that CuPy has under the same names.
UFUNCS = (
    "add", "subtract", "multiply", "divide", "true_divide", "floor_divide", "remainder", "power", "negative",
    "absolute", "maximum", "minimum", "fmax", "fmin", "exp", "expm1", "log", "log1p", "sqrt", "square", "sign", "tanh",
    "sin", "cos", "rint", "floor", "ceil", "trunc", "ldexp", "isnan", "isinf", "isfinite", "signbit", "equal",
    "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or", "logical_not",
    "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", "invert",
)  # fmt: skip
# Its functions likewise: all arrays among their arguments are of the device, and so is the result.
FUNCTIONS = (
    "where", "broadcast_to", "copyto", "array_equal", "concatenate", "stack", "sum", "prod", "mean", "max",
    "min", "amax", "amin",
    "argmax", "argmin", "any", "all", "count_nonzero", "dot", "einsum", "transpose", "swapaxes", "reshape", "ravel",
    "take", "take_along_axis", "clip", "outer", "expand_dims", "squeeze", "nonzero", "argwhere", "var",
    "std", "may_share_memory", "roll", "moveaxis", "allclose", "nanmax", "nan_to_num", "bincount",
    "logaddexp", "cumsum", "sort", "argsort", "unique", "tile", "repeat", "split", "triu", "tril", "diag",
)  # fmt: skip
FUNCTIONS += ("resize",)
SCALARS = (bool, int, float, complex, np.generic)


class Flags:
    """Without writeable and aligned: CuPy's do not know them."""

    def __init__(self, flags, owndata):
        self.c_contiguous, self.f_contiguous, self.owndata = flags.c_contiguous, flags.f_contiguous, owndata

    fnc = property(lambda self: self.f_contiguous and not self.c_contiguous)
    forc = property(lambda self: self.f_contiguous or self.c_contiguous)

    def __getitem__(self, name):
        return {
            "C_CONTIGUOUS": self.c_contiguous,
            "F_CONTIGUOUS": self.f_contiguous,
            "OWNDATA": self.owndata,
        }[name]


class ndarray:
    """A view of a piece of `Memory`."""

    __array_priority__ = 100
    __hash__ = None

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        dtype = np.dtype(dtype)
        shape = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
        if strides is None:
            strides = np.empty(shape, dtype, order).strides
        base = None
        if memptr is None:
            memptr = MemoryPointer(Memory(max(int(np.prod(shape)) * dtype.itemsize, 1)), 0)
        else:
            base = memptr.mem
        host = np.ndarray(shape, dtype, memptr.mem.bytes, memptr.ptr - memptr.mem.ptr, strides)
        self._set(host, memptr.mem, base)

    def _set(self, host, memory, base):
        if not _supported(host.dtype):
            raise ValueError(f"Unsupported dtype {host.dtype}")
        self._host, self._memory, self.base = host, memory, base
        self.shape, self.dtype, self.strides = host.shape, host.dtype, host.strides
        self.ndim, self.size, self.itemsize, self.nbytes = host.ndim, host.size, host.itemsize, host.nbytes

    # What it says of itself

    @property
    def data(self):
        return MemoryPointer(self._memory, self._host.__array_interface__["data"][0] - self._memory.ptr)

    @property
    def flags(self):
        return Flags(self._host.flags, self.base is None)

    @property
    def device(self):
        from tests.stand_in.modules import Device

        return Device()

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.shape, "typestr": self.dtype.str, "descr": self.dtype.descr, "version": 3,
            "stream": get_current_stream().ptr or 1, "data": (self.data.ptr if self.size else 0, False),
            "strides": None if self._host.flags.c_contiguous else self.strides,
        }  # fmt: skip

    # Where NumPy meets it

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array "
            "explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        special = {"erf", "erfc", "expit"}
        name = ufunc.__name__
        if method != "__call__" or name not in (*UFUNCS, *special):
            return NotImplemented
        if "out" in kwargs:
            (kwargs["out"],) = kwargs["out"]
        return Ufunc(ufunc)(*inputs, **kwargs)

    def __array_function__(self, func, types, args, kwargs):
        from tests.stand_in import modules

        found = modules.cupy
        try:
            for part in [*func.__module__.split(".")[1:], func.__name__]:
                found = getattr(found, part)
        except AttributeError:
            return NotImplemented
        if not all(issubclass(t, (ndarray, np.ndarray)) for t in types):
            return NotImplemented
        return found(*args, **kwargs)

    # To the host, explicitly

    def get(self, stream=None, order="C", out=None, blocking=True):
        QUEUE.wait()
        if out is None:
            return np.array(self._host, order=order)
        if not isinstance(out, np.ndarray) or out.dtype != self.dtype or out.shape != self.shape:
            raise TypeError(
                "Only numpy.ndarray of the same dtype and shape can be obtained from cupy.ndarray"
            )
        out[...] = self._host
        return out

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        QUEUE.wait()
        self._host[...] = arr

    def item(self, *at_):
        return self.get().item(*at_)

    def tolist(self):
        return self.get().tolist()

    def __bool__(self):
        return bool(self.get())

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self._host)))

    def __repr__(self):
        return repr(self.get())

    # On the device

    def __getitem__(self, key):
        QUEUE.wait()
        return _wrap(self._host[_key(key)], self)

    def __setitem__(self, key, value):
        value = _unwrap(value)
        QUEUE.wait()
        with np.errstate(all="ignore"):
            self._host[_key(key)] = value

    @property
    def T(self):
        return _wrap(self._host.T, self)

    def transpose(self, *axes):
        return _wrap(self._host.transpose(*axes), self)

    def swapaxes(self, axis1, axis2):
        return _wrap(self._host.swapaxes(axis1, axis2), self)

    def reshape(self, *shape, order="C"):
        QUEUE.wait()
        return _wrap(self._host.reshape(*shape, order=order), self)

    def ravel(self, order="C"):
        QUEUE.wait()
        return _wrap(self._host.ravel(order), self)

    def view(self, dtype=None):
        return _wrap(self._host.view(self.dtype if dtype is None else np.dtype(dtype)), self)

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        QUEUE.wait()
        with np.errstate(all="ignore"):
            found = self._host.astype(dtype, order, casting or "unsafe", copy=copy)
        return self if found is self._host else _wrap(found)

    def copy(self, order="C"):
        QUEUE.wait()
        return _wrap(self._host.copy(order))

    def fill(self, value):
        QUEUE.wait()
        self._host.fill(_unwrap(value))

    def __dlpack_device__(self):
        return (1, 0)  # a CPU's: so that PyTorch without CUDA takes it

    def __dlpack__(self, **how):
        QUEUE.wait()
        return self._host.__dlpack__()  # (NumPy refuses bfloat16, CuPy would not)


def _operator(name, reflected=False):
    function = getattr(operator, name)

    def method(self, other):
        if not isinstance(other, (ndarray, *SCALARS)):
            if isinstance(other, np.ndarray):
                raise TypeError(f"Unsupported type {type(other)}")
            return NotImplemented
        return _elementwise(function, (other, self) if reflected else (self, other))

    return method


for _name in (
    "add",
    "sub",
    "mul",
    "truediv",
    "pow",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
    "and_",
    "or_",
    "xor",
):
    _plain = _name.rstrip("_")
    setattr(ndarray, f"__{_plain}__", _operator(_name))
    if _plain not in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(ndarray, f"__r{_plain}__", _operator(_name, reflected=True))
for _name, _symbol in (("add", "add"), ("sub", "subtract"), ("mul", "multiply"), ("truediv", "divide")):
    setattr(
        ndarray, f"__i{_name}__", lambda self, other, u=_symbol: Ufunc(getattr(np, u))(self, other, out=self)
    )
for _name in ("floordiv", "mod", "lshift", "rshift"):
    setattr(ndarray, f"__{_name}__", _operator(_name))
for _name in ("xor", "and", "or"):
    setattr(
        ndarray,
        f"__i{_name}__",
        lambda self, other, u=f"bitwise_{_name}": Ufunc(getattr(np, u))(self, other, out=self),
    )
ndarray.__neg__ = lambda self: _elementwise(operator.neg, (self,))
ndarray.__abs__ = lambda self: _elementwise(operator.abs, (self,))
ndarray.__invert__ = lambda self: _elementwise(operator.invert, (self,))
for _name in ("sum", "prod", "mean", "max", "min", "argmax", "argmin", "any", "all"):
    setattr(
        ndarray, _name, lambda self, *args, _f=_name, **more: function(getattr(np, _f))(self, *args, **more)
    )


def _matmul(self, other):
    raise NotImplementedError(
        "the stand-in multiplies matrices only where the lab does: cupy.matmul, cuBLAS, kernels"
    )


ndarray.__matmul__ = _matmul


def _supported(dtype):
    return dtype.isnative and (dtype.kind in "biufc" or low(dtype))


def _wrap(host, like=None):
    """A device array: a view of `like`'s memory where it is one, else in memory of its own."""
    found = ndarray.__new__(ndarray)
    if isinstance(host, np.ndarray) and like is not None and np.may_share_memory(host, like._memory.bytes):
        found._set(host, like._memory, like if like.base is None else like.base)
        return found
    host = np.asarray(host)
    made = ndarray(host.shape, host.dtype, order="F" if host.flags.fnc else "C")
    made._host[...] = host
    return made


def _unwrap(x):
    """The host's view of an argument; host arrays are refused, as CuPy does."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, (tuple, list)):
        return type(x)(_unwrap(y) for y in x)
    return x


def _key(key):
    return _unwrap(key)


def _checked(args):
    for x in args:
        if not isinstance(x, (ndarray, *SCALARS)):
            raise TypeError(f"Unsupported type {type(x)}")
    dtypes = {x.dtype for x in args if isinstance(x, ndarray)}
    if any(str(dtype) == "bfloat16" for dtype in dtypes) and (
        len(dtypes) > 1 or len(args) != sum(isinstance(x, ndarray) for x in args)
    ):
        raise NotImplementedError("bfloat16 with other dtypes and scalars is not modelled: widen it first")


def _elementwise(function, args):
    _checked(args)
    QUEUE.wait()
    with np.errstate(all="ignore"):
        return _wrap(function(*(_unwrap(x) for x in args)))


class Ufunc:
    def __init__(self, ufunc):
        self.ufunc, self.__name__ = ufunc, ufunc.__name__

    def __call__(self, *args, out=None, dtype=None, casting="same_kind"):
        ins = args[: self.ufunc.nin]
        out = args[self.ufunc.nin] if len(args) > self.ufunc.nin else out
        _checked(ins)
        if out is not None and not isinstance(out, ndarray):
            raise TypeError("Unsupported type for out: " + str(type(out)))
        QUEUE.wait()
        how = {"dtype": dtype} if dtype is not None else {}
        with np.errstate(all="ignore"):
            found = self.ufunc(
                *(_unwrap(x) for x in ins), out=None if out is None else out._host, casting=casting, **how
            )
        return _wrap(found) if out is None else out


def function(of_numpy):
    """NumPy's function, on device arrays."""

    def on_device(*args, **kwargs):
        args, kwargs = _unwrap(args), {name: _unwrap(x) for name, x in kwargs.items()}
        QUEUE.wait()
        with np.errstate(all="ignore"):
            found = of_numpy(*args, **kwargs)
        if found is None or isinstance(
            found, bool
        ):  # (CuPy's array_equal gives an array: it is asked for its truth)
            return found
        if isinstance(found, (tuple, list)):
            return type(found)(_wrap(x) for x in found)
        return _wrap(found)

    return on_device


def broadcast_to(array, shape):
    return _wrap(np.broadcast_to(array._host, shape), array)


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    if isinstance(obj, ndarray):
        same = dtype is None or np.dtype(dtype) == obj.dtype
        return (
            obj
            if same and not copy and order in ("K", None)
            else obj.astype(dtype or obj.dtype, order or "K")
        )
    host = np.array(obj, dtype, order=order or "K", copy=None)
    return _wrap(host.astype(host.dtype.newbyteorder("="), copy=False))


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return array(a, dtype, bool(copy), order)


def ascontiguousarray(a, dtype=None):
    a = asarray(a, dtype)
    return a if a.flags.c_contiguous else a.copy("C")


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    if isinstance(a, ndarray):
        return a.get(stream, order, out, blocking)
    return np.asarray(a, order=order)


def empty(shape, dtype=float, order="C"):
    return ndarray(shape, dtype, order=order)


def _filled(value, shape, dtype, order="C"):
    made = ndarray(shape, dtype, order=order)
    made._host[...] = _unwrap(value)
    return made


def zeros(shape, dtype=float, order="C"):
    return _filled(0, shape, dtype, order)


def ones(shape, dtype=float, order="C"):
    return _filled(1, shape, dtype, order)


def full(shape, fill_value, dtype=None, order="C"):
    return _filled(fill_value, shape, np.asarray(fill_value).dtype if dtype is None else dtype, order)


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    shape = prototype.shape if shape is None else shape
    if order in ("K", "A"):
        order = "F" if prototype.flags.fnc else "C"
    return ndarray(shape, prototype.dtype if dtype is None else dtype, order=order)


def zeros_like(a, dtype=None, order="K", subok=None, shape=None):
    made = empty_like(a, dtype, order, subok, shape)
    made.fill(0)
    return made


def ones_like(a, dtype=None, order="K", subok=None, shape=None):
    made = empty_like(a, dtype, order, subok, shape)
    made.fill(1)
    return made


def full_like(a, fill_value, dtype=None, order="K", subok=None, shape=None):
    made = empty_like(a, dtype, order, subok, shape)
    made.fill(fill_value)
    return made


def arange(start, stop=None, step=1, dtype=None):
    return _wrap(np.arange(start, stop, step, dtype))


def matmul(x1, x2, /, out=None):
    """With sums in float32 for 16 bits, into a C-contiguous out; as CuPy's, when it is waited for."""
    for x in (x1, x2):
        _checked((x,))
    a, b = x1._host, x2._host
    dtype = np.result_type(a.dtype, b.dtype)
    if out is None:
        out = empty((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), dtype)
    wide = np.float32 if low(dtype) else dtype

    def product():
        with np.errstate(all="ignore"):
            out._host[...] = np.matmul(a.astype(wide), b.astype(wide))

    QUEUE.launch(product)
    return out


def as_strided(x, shape=None, strides=None):
    shape, strides = (
        x.shape if shape is None else tuple(shape),
        x.strides if strides is None else tuple(strides),
    )
    host, memory = at(x.data.ptr, x.dtype, shape, strides)
    found = ndarray.__new__(ndarray)
    found._set(host, memory, x)
    return found
