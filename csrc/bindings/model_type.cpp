// _core.Model: a CPython type around bindings/model.h.
//
// Written against CPython's own API because pybind11's dispatcher takes 0.4 µs, a third of a call
// on one row. Instances are called by vectorcall: no tuple, no dict. Python classes that derive
// from the type (CompiledModel) inherit that from Python 3.12 on; before, it is switched on for
// them when the first instance is made, and the entry point makes sure that nobody has put a
// `__call__` of their own into the class since.
//
// Nothing that Python does may crash: an instance that __init__ has not run on says so, __init__
// runs once (another thread may be calling already), and every C++ exception becomes Python's here,
// in `guarded`.
#include "bindings/model_type.h"

#include <structmember.h>

#include <cstddef>
#include <memory>
#include <new>
#include <stdexcept>

#include "bindings/errors.h"
#include "bindings/model.h"

namespace fastmnist::bindings {
namespace {

struct ModelObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject* weak_references;
  Model* model;  // nullptr until __init__ has run
};

ModelObject* as_object(PyObject* self) { return reinterpret_cast<ModelObject*>(self); }

const Model& model_of(PyObject* self) {
  const Model* model = as_object(self)->model;
  if (model == nullptr)
    throw std::runtime_error("this model was never initialized: __init__ did not run");
  return *model;
}

// The one place where C++ exceptions become Python's.
void set_python_error() noexcept {
  try {
    throw;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const InvalidArgument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  } catch (...) {
    PyErr_SetString(PyExc_RuntimeError, "unknown error");
  }
}

template <typename F>
auto guarded(F function, decltype(function()) failed = {}) noexcept -> decltype(function()) {
  try {
    return function();
  } catch (...) {
    set_python_error();
    return failed;
  }
}

// ---- Inputs and out, by position or by name -----------------------------------------------------

PyObject* g_x = nullptr;
PyObject* g_out = nullptr;

struct Arguments {
  const char* function;
  const Ports& ports;
  PyObject* inputs[kMostPorts] = {};
  PyObject* out = nullptr;

  std::size_t count() const { return ports.inputs.size(); }

  PyObject** slot(PyObject* name) {
    // Names are interned almost always, so that the address decides.
    if (name == g_out || is(name, "out")) return &out;
    if (count() == 1 && (name == g_x || is(name, "x"))) return &inputs[0];
    for (std::size_t i = 0; i < count(); ++i)
      if (is(name, ports.inputs[i].name.c_str())) return &inputs[i];
    return nullptr;
  }

  static bool is(PyObject* name, const char* known) {
    return PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, known) == 0;
  }

  // False with a TypeError set.
  bool take(PyObject* name, PyObject* value) {
    PyObject** const place = slot(name);
    if (place == nullptr) {
      PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%S'", function, name);
      return false;
    }
    if (*place != nullptr) {
      PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%S'", function, name);
      return false;
    }
    *place = value;
    return true;
  }

  // The inputs, then `out`.
  bool take_positional(PyObject* const* values, Py_ssize_t given) {
    const auto own = static_cast<Py_ssize_t>(count());
    const Py_ssize_t most = own + (ports.positional_out ? 1 : 0);
    if (given > most) {
      PyErr_Format(PyExc_TypeError, "%s() takes at most %zd positional arguments (%zd given)",
                   function, most, given);
      return false;
    }
    for (Py_ssize_t i = 0; i < given; ++i) (i < own ? inputs[i] : out) = values[i];
    return true;
  }

  bool complete() {
    for (std::size_t i = 0; i < count(); ++i)
      if (inputs[i] == nullptr) {
        PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'", function,
                     count() == 1 ? "x" : ports.inputs[i].name.c_str());
        return false;
      }
    if (out == nullptr) out = Py_None;
    return true;
  }

  bool from_vector(PyObject* const* values, Py_ssize_t given, PyObject* names) {
    if (!take_positional(values, given)) return false;
    const Py_ssize_t named = names != nullptr ? PyTuple_GET_SIZE(names) : 0;
    for (Py_ssize_t i = 0; i < named; ++i)
      if (!take(PyTuple_GET_ITEM(names, i), values[given + i])) return false;
    return complete();
  }

  bool from_tuple(PyObject* values, PyObject* named) {
    if (!take_positional(&PyTuple_GET_ITEM(values, 0), PyTuple_GET_SIZE(values))) return false;
    Py_ssize_t at = 0;
    PyObject* name = nullptr;
    PyObject* value = nullptr;
    while (named != nullptr && PyDict_Next(named, &at, &name, &value))
      if (!take(name, value)) return false;
    return complete();
  }
};

// ---- Calling ------------------------------------------------------------------------------------

PyObject* model_call(PyObject* self, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    const Model& model = model_of(self);
    Arguments given{Py_TYPE(self)->tp_name, model.ports()};
    return given.from_tuple(args, kwargs) ? model.call(given.inputs, given.out) : nullptr;
  });
}

// For classes that got a __call__ of their own while their vectorcall was on.
PyObject* call_by_tuple(PyObject* self, PyObject* const* values, Py_ssize_t count,
                        PyObject* names) {
  return guarded([&]() -> PyObject* {
    py::tuple args(static_cast<std::size_t>(count));
    for (Py_ssize_t i = 0; i < count; ++i)
      args[static_cast<std::size_t>(i)] = py::handle(values[i]);
    py::dict kwargs;
    for (Py_ssize_t i = 0; names != nullptr && i < PyTuple_GET_SIZE(names); ++i)
      kwargs[py::handle(PyTuple_GET_ITEM(names, i))] = py::handle(values[count + i]);
    return Py_TYPE(self)->tp_call(self, args.ptr(), kwargs.ptr());
  });
}

PyObject* model_vectorcall(PyObject* self, PyObject* const* values, std::size_t flagged_count,
                           PyObject* names) {
  const Py_ssize_t count = PyVectorcall_NARGS(flagged_count);
  if (Py_TYPE(self)->tp_call != model_call) return call_by_tuple(self, values, count, names);
  return guarded([&]() -> PyObject* {
    const Model& model = model_of(self);
    Arguments given{Py_TYPE(self)->tp_name, model.ports()};
    return given.from_vector(values, count, names) ? model.call(given.inputs, given.out) : nullptr;
  });
}

PyObject* model_predict(PyObject* self, PyObject* const* values, Py_ssize_t count,
                        PyObject* names) {
  return guarded([&]() -> PyObject* {
    const Model& model = model_of(self);
    Arguments given{"predict", model.ports()};
    return given.from_vector(values, count, names) ? model.predict(given.inputs, given.out)
                                                   : nullptr;
  });
}

PyObject* model_unpack_floats(PyObject* self, PyObject* index) {
  const Py_ssize_t step = PyNumber_AsSsize_t(index, nullptr);
  if (step == -1 && PyErr_Occurred() != nullptr) return nullptr;
  return guarded([&] { return model_of(self).unpack_floats(step); });
}

PyObject* model_unpack(PyObject* self, PyObject* index) {
  const Py_ssize_t layer = PyNumber_AsSsize_t(index, nullptr);  // out of range: the nearest
  if (layer == -1 && PyErr_Occurred() != nullptr) return nullptr;
  return guarded([&] { return model_of(self).unpack(layer); });
}

// ---- Making and freeing -------------------------------------------------------------------------

PyObject* model_new(PyTypeObject* type, PyObject*, PyObject*) {
#if PY_VERSION_HEX < 0x030C0000
  if (type->tp_call == model_call) type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
#endif
  PyObject* self = type->tp_alloc(type, 0);  // zeroed
  if (self != nullptr) as_object(self)->vectorcall = model_vectorcall;
  return self;
}

std::unique_ptr<Model> model_from(PyObject* packed, PyObject* inputs, PyObject* outputs,
                                  PyObject* structure) {
  struct Buffer : Py_buffer {
    ~Buffer() { PyBuffer_Release(this); }
  } buffer;
  if (PyObject_GetBuffer(packed, &buffer, PyBUF_STRIDED_RO) != 0) {
    buffer.obj = nullptr;
    throw py::error_already_set();
  }
  if (buffer.ndim != 1 || buffer.itemsize != 1 || (buffer.len > 1 && buffer.strides[0] != 1))
    invalid("packed", "a one-dimensional, contiguous uint8 array", "another array");
  return std::make_unique<Model>(
      std::span(static_cast<const std::byte*>(buffer.buf), static_cast<std::size_t>(buffer.len)),
      py::reinterpret_borrow<py::object>(inputs), py::reinterpret_borrow<py::object>(outputs),
      py::reinterpret_borrow<py::object>(structure));
}

int model_init(PyObject* self, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"packed",    "inputs",         "outputs",
                                "structure", "positional_out", nullptr};
  PyObject* packed = nullptr;
  PyObject* inputs = Py_None;
  PyObject* outputs = Py_None;
  PyObject* structure = Py_None;
  int positional_out = 1;
  if (PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOOp:Model", const_cast<char**>(names), &packed,
                                  &inputs, &outputs, &structure, &positional_out) == 0)
    return -1;
  return guarded(
      [&] {
        std::unique_ptr<Model> model = model_from(packed, inputs, outputs, structure);
        model->take_out_by_name(positional_out == 0);
        // Now, because reading `packed` may have run Python.
        if (as_object(self)->model != nullptr)
          throw std::runtime_error("this model is initialized already: make another one");
        as_object(self)->model = model.release();
        return 0;
      },
      -1);
}

void model_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  if (as_object(self)->weak_references != nullptr) PyObject_ClearWeakRefs(self);
  delete as_object(self)->model;
  type->tp_free(self);
  Py_DECREF(type);
}

// ---- Properties ---------------------------------------------------------------------------------

PyObject* get_nbytes(PyObject* self, void*) {
  const Model* model = as_object(self)->model;
  return PyLong_FromLongLong(model != nullptr ? model->nbytes() : 0);
}

PyObject* get_in_features(PyObject* self, void*) {
  return guarded([&] { return PyLong_FromLongLong(model_of(self).inputs()); });
}

PyObject* get_out_features(PyObject* self, void*) {
  return guarded([&] { return PyLong_FromLongLong(model_of(self).outputs()); });
}

PyObject* get_takes_pixels(PyObject* self, void*) {
  return guarded([&] { return PyBool_FromLong(model_of(self).takes_pixels()); });
}

constexpr const char* kModelDoc =
    R"(Model(packed, *, inputs=None, outputs=None, structure=None, positional_out=True)
--

A packed network: rows in, logits out.

Calling it, ``model(x, out=None)``, computes the logits of `x`.

Parameters
----------
x : numpy.ndarray or torch.Tensor
    ``[N, ...]`` with as many values per row as the network has inputs: uint8 pixels (what they
    stand for was fixed by calibration) or floats; float64, float16 and bfloat16 become float32.
out : optional
    A writable, contiguous float32 array or CPU tensor ``[N, classes]`` to write to; no other
    memory is then allocated.

Returns
-------
numpy.ndarray or torch.Tensor
    float32 ``[N, classes]``, of the library that `x` belongs to; `out` where given.

Raises
------
TypeError, ValueError
    For another dtype, shape, device, a missing batch dimension, an `out` that does not fit, or
    uint8 where the model does not know what a pixel stands for.)";

constexpr const char* kPredictDoc = R"(predict($self, x, out=None)
--

Return the index of each row's largest logit.

Parameters
----------
x : numpy.ndarray or torch.Tensor
    As for calling the model.
out : optional
    A writable, contiguous int64 array or CPU tensor ``[N]`` to write to; no other memory is then
    allocated.

Returns
-------
numpy.ndarray or torch.Tensor
    int64 ``[N]``, of the library that `x` belongs to; `out` where given.

Raises
------
TypeError, ValueError
    If the network has a single output; otherwise as calling the model does.)";

constexpr const char* kUnpackDoc = R"(unpack($self, layer, /)
--

Return a layer's canonical numbers: int8 weight, weight_scale, bias.)";

constexpr const char* kUnpackFloatsDoc = R"(unpack_floats($self, step, /)
--

Return the numbers of a graph's float layer, by its step: float32 weight, bias.)";

PyMethodDef g_methods[] = {
    {"predict", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(model_predict)),
     METH_FASTCALL | METH_KEYWORDS, kPredictDoc},
    {"unpack", model_unpack, METH_O, kUnpackDoc},
    {"unpack_floats", model_unpack_floats, METH_O, kUnpackFloatsDoc},
    {nullptr, nullptr, 0, nullptr}};

PyGetSetDef g_properties[] = {
    {"nbytes", get_nbytes, nullptr, "Bytes of the packed network.", nullptr},
    {"in_features", get_in_features, nullptr, "Values per row of x.", nullptr},
    {"out_features", get_out_features, nullptr, "Logits per row.", nullptr},
    {"takes_pixels", get_takes_pixels, nullptr, "Whether x may be uint8.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyMemberDef g_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(ModelObject, vectorcall), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ModelObject, weak_references), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};

PyType_Slot g_slots[] = {{Py_tp_new, reinterpret_cast<void*>(model_new)},
                         {Py_tp_init, reinterpret_cast<void*>(model_init)},
                         {Py_tp_dealloc, reinterpret_cast<void*>(model_dealloc)},
                         {Py_tp_call, reinterpret_cast<void*>(model_call)},
                         {Py_tp_methods, g_methods},
                         {Py_tp_getset, g_properties},
                         {Py_tp_members, g_members},
                         {Py_tp_doc, const_cast<char*>(kModelDoc)},
                         {0, nullptr}};

PyType_Spec g_spec = {"fastmnist._core.Model", sizeof(ModelObject), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_VECTORCALL,
                      g_slots};

}  // namespace

void register_model(py::module_& module) {
  g_x = PyUnicode_InternFromString("x");
  g_out = PyUnicode_InternFromString("out");
  PyObject* type = g_x != nullptr && g_out != nullptr ? PyType_FromSpec(&g_spec) : nullptr;
  if (type == nullptr) throw py::error_already_set();
  module.attr("Model") = py::reinterpret_steal<py::object>(type);
}

}  // namespace fastmnist::bindings
