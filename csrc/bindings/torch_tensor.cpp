#include "bindings/torch_tensor.h"

#include <cstring>

namespace fastmnist::bindings {
namespace {

// Never given up: torch, whose types and functions these are, cannot be unloaded. The GIL guards
// them.
TorchType g_types[2];
int g_known = 0;
PyObject* g_mode_count = nullptr;

// An attribute of a module that is imported already; nullptr, without an error, if there is none.
PyObject* attribute_of(const char* module_name, const char* name) {
  PyObject* key = PyUnicode_FromString(module_name);
  PyObject* module = key != nullptr ? PyImport_GetModule(key) : nullptr;
  PyObject* found = module != nullptr ? PyObject_GetAttrString(module, name) : nullptr;
  Py_XDECREF(module);
  Py_XDECREF(key);
  PyErr_Clear();
  return found;
}

bool is_attribute_of(const char* module_name, const char* name, PyTypeObject* type) {
  PyObject* found = attribute_of(module_name, name);
  Py_XDECREF(found);
  return found == reinterpret_cast<PyObject*>(type);
}

const DLPackExchangeAPI* exchange_api(PyObject* type) {
  PyObject* capsule = PyObject_GetAttrString(type, "__dlpack_c_exchange_api__");
  const DLPackExchangeAPI* api = nullptr;
  if (capsule != nullptr && PyCapsule_IsValid(capsule, "dlpack_exchange_api"))
    api =
        static_cast<const DLPackExchangeAPI*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
  Py_XDECREF(capsule);
  PyErr_Clear();
  const bool usable = api != nullptr && api->header.version.major == DLPACK_MAJOR_VERSION &&
                      api->dltensor_from_py_object_no_sync != nullptr;
  return usable ? api : nullptr;
}

// The C functions behind Tensor.is_neg() and Tensor.requires_grad.
PyCFunction method_without_arguments(PyObject* type, const char* name) {
  PyObject* found = PyObject_GetAttrString(type, name);  // stays referenced
  if (found == nullptr || Py_TYPE(found) != &PyMethodDescr_Type) return nullptr;
  const PyMethodDef* method = reinterpret_cast<PyMethodDescrObject*>(found)->d_method;
  return method->ml_flags == METH_NOARGS ? method->ml_meth : nullptr;
}

PyGetSetDef* property(PyObject* type, const char* name) {
  PyObject* found = PyObject_GetAttrString(type, name);  // stays referenced
  if (found == nullptr || Py_TYPE(found) != &PyGetSetDescr_Type) return nullptr;
  return reinterpret_cast<PyGetSetDescrObject*>(found)->d_getset;
}

const TorchType* learn(PyTypeObject* type) {
  if (g_known == 2) return nullptr;
  auto* object = reinterpret_cast<PyObject*>(type);
  if (!is_attribute_of("torch", "Tensor", type) &&
      !is_attribute_of("torch.nn.parameter", "Parameter", type))
    return nullptr;
  const TorchType found{type, exchange_api(object), method_without_arguments(object, "is_neg"),
                        property(object, "requires_grad")};
  PyErr_Clear();
  if (found.api == nullptr || found.is_neg == nullptr || found.requires_grad == nullptr)
    return nullptr;
  if (g_mode_count == nullptr) g_mode_count = attribute_of("torch._C", "_len_torch_dispatch_stack");
  Py_INCREF(type);
  g_types[g_known] = found;
  return &g_types[g_known++];
}

// Takes the reference. An error counts as a yes.
bool is_yes(PyObject* answer) {
  if (answer == nullptr) PyErr_Clear();
  Py_XDECREF(answer);
  return answer != Py_False;
}

}  // namespace

const TorchType* find_torch_type(PyTypeObject* type) {
  for (int i = 0; i < g_known; ++i)
    if (g_types[i].type == type) return &g_types[i];
  // Anything can come here, so that looking closer must be rare.
  const char* name = type->tp_name;
  if (std::strcmp(name, "Tensor") != 0 && std::strcmp(name, "torch.Tensor") != 0 &&
      std::strcmp(name, "Parameter") != 0)
    return nullptr;
  return learn(type);
}

bool is_negative_view(const TorchType& type, PyObject* tensor) {
  return is_yes(type.is_neg(tensor, nullptr));
}

bool requires_grad(const TorchType& type, PyObject* tensor) {
  return is_yes(type.requires_grad->get(tensor, type.requires_grad->closure));
}

bool mode_watches() {
  if (g_mode_count == nullptr) return true;
  PyObject* count = PyObject_CallNoArgs(g_mode_count);
  if (count == nullptr) PyErr_Clear();
  const bool none = count != nullptr && PyLong_Check(count) && PyLong_AsLong(count) == 0;
  Py_XDECREF(count);
  return !none;
}

}  // namespace fastmnist::bindings
