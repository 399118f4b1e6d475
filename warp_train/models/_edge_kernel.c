/* Edges of photos on a CPU: what edge_points.py and edge_strips.py compute, as functions of buffers.
 *
 * Both are called for one photo at a time, without the lock of the interpreter, so that photos can be
 * spread over threads.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_edge_kernel.h"

#define BYTES ((Py_ssize_t)sizeof(float))

static PyObject *finished(Py_buffer *buffers, int count, int fits)
{
    for (int k = 0; k < count; k++)
        PyBuffer_Release(buffers + k);
    if (!fits)
        PyErr_SetString(PyExc_ValueError, "arrays that do not fit each other");
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

/* find(image [3, H, W], smooth [H + 2, W + 2], pixels [C, 2], normals [C, 2], strengths [C], height,
 *      width) */
static PyObject *find(PyObject *module, PyObject *arguments)
{
    Py_buffer b[5];
    int height, width;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*w*w*w*w*ii", b, b + 1, b + 2, b + 3, b + 4, &height, &width))
        return NULL;
    const Py_ssize_t cells =
        (Py_ssize_t)((height + CELL - 1) / CELL) * ((width + CELL - 1) / CELL);
    const int fits = height >= 1 && width >= 1 && b[0].len == 3 * BYTES * height * width &&
                     b[1].len == BYTES * (height + 2) * (width + 2) &&
                     b[2].len == 2 * BYTES * cells && b[3].len == b[2].len &&
                     b[4].len == BYTES * cells;
    float *room = fits ? PyMem_RawMalloc(sizeof(float) * room_to_find(height, width)) : NULL;
    if (room) {
        Py_BEGIN_ALLOW_THREADS
        find_points(b[0].buf, height, width, room, b[1].buf,
                    (Points){b[2].buf, b[3].buf, b[4].buf});
        Py_END_ALLOW_THREADS
        PyMem_RawFree(room);
    }
    if (fits && !room)
        PyErr_NoMemory();
    return finished(b, 5, fits);
}

/* trace(luma [H, W], pixels [N, 2], normals [N, 2], numbers, found [N, 13], height, width, unit) */
static PyObject *trace(PyObject *module, PyObject *arguments)
{
    Py_buffer b[5];
    Photo photo;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*y*y*y*w*iif", b, b + 1, b + 2, b + 3, b + 4, &photo.height,
                          &photo.width, &photo.unit))
        return NULL;
    const Py_ssize_t count = b[1].len / (2 * BYTES);
    const int fits = photo.height >= 2 && photo.width >= 2 &&
                     b[0].len == BYTES * photo.height * photo.width && b[2].len == b[1].len &&
                     b[3].len == (Py_ssize_t)sizeof(Numbers) && b[4].len == count * FOUND * BYTES;
    if (fits) {
        photo.luma = b[0].buf;
        Py_BEGIN_ALLOW_THREADS
        trace_photo(photo, b[3].buf, b[1].buf, b[2].buf, count, b[4].buf);
        Py_END_ALLOW_THREADS
    }
    return finished(b, 5, fits);
}

static PyMethodDef methods[] = {{"find", find, METH_VARARGS, NULL},
                                {"trace", trace, METH_VARARGS, NULL},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_edge_kernel", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__edge_kernel(void) { return PyModule_Create(&definition); }
