/* What the compiled code for edges shares: see _edge_kernel.c. */
#ifndef EDGE_KERNEL_H
#define EDGE_KERNEL_H

#define FITS 6
#define ROOM 40  /* samples along a strip, filled up to whole vectors with samples without weight */
#define FOUND 13 /* bend, variance and support of four stretches, and a slope */
#define CELL 8   /* px: side of the cells that hold at most one edge */

/* One version for each generation of processors; the loader chooses. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__)
#define FOR_EACH_CPU __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#else
#define FOR_EACH_CPU
#endif
#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

/* Numbers of edge_strips.py, passed by edge_kernel.py so that they are written once. */
typedef struct {
    float step; /* between samples, in the longest stretch of a strip */
    float first_window, window, jump, turned, faint;
    float ridge[3];
    float least_spread, share;
    float longest[2];        /* stretches of the two strips, in half diagonals */
    float gauss[FITS][ROOM]; /* weights along the strip of each fit */
} Numbers;

typedef struct {
    const float *luma;
    int height, width;
    float unit; /* half the diagonal, in px */
} Photo;

/* The clearest edge point of every cell, row by row. */
typedef struct {
    float *pixels, *normals; /* [cells, 2]: x and y */
    float *strengths;        /* [cells] */
} Points;

/* Follows `count` edges of a photo; writes FOUND numbers for each. */
void trace_photo(Photo photo, const Numbers *numbers, const float *pixels, const float *normals,
                 Py_ssize_t count, float *found);

/* `image [3, height, width]`; writes the luma smoothed, `[height + 2, width + 2]`, and the points.
 * `room` holds `room_to_find` floats. */
void find_points(const float *image, int height, int width, float *room, float *smooth,
                 Points points);
size_t room_to_find(int height, int width);

#endif
