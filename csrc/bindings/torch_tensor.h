// What _core knows of torch, without its headers: found at run time on torch's own types.
//
// Tensors speak DLPack's C exchange API, a table of function pointers on their type. It does not
// tell everything: whether a tensor is a negative view (signs flipped lazily, by a bit), requires
// grad, or whether a mode (FakeTensorMode) wants to see new tensors. Those questions go to torch's
// own C functions, without the look-up of their names at every call.
#pragma once

#include <Python.h>

#include "ATen/dlpack.h"

namespace fastmnist::bindings {

struct TorchType {
  PyTypeObject* type;
  const DLPackExchangeAPI* api;
  PyCFunction is_neg;
  PyGetSetDef* requires_grad;
};

// torch.Tensor and Parameter; nullptr for anything else. Subclasses may answer questions with
// Python of their own: they take the slow path.
const TorchType* find_torch_type(PyTypeObject* type);

// Both may run Python (a __torch_function__ mode). A question that fails counts as a yes, without a
// Python error set.
bool is_negative_view(const TorchType& type, PyObject* tensor);
bool requires_grad(const TorchType& type, PyObject* tensor);

// Whether some Python mode wants to see tensors that are made. Yes where nobody can tell.
bool mode_watches();

}  // namespace fastmnist::bindings
