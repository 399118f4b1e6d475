/* edge_points.py, which is the reference, in a few passes over rows that stay in cache. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>

#include "_edge_kernel.h"

#define MARGIN 3 /* px around a row, for the smoothing's five taps and a derivative */

INLINE int inside(int at, int length) { return at < 0 ? 0 : at < length ? at : length - 1; }

INLINE void luma_of(const float *image, size_t pixels, float *luma)
{
    const float *red = image, *green = image + pixels, *blue = image + 2 * pixels;
#pragma omp simd
    for (size_t n = 0; n < pixels; n++)
        luma[n] = 0.299f * red[n] + 0.587f * green[n] + 0.114f * blue[n];
}

/* Binomial weights of order 4 along both axes: a deviation of 1 px. Rows and columns one px outside
 * the photo are made too; the border is repeated outside. */
INLINE void smooth_luma(const float *luma, int height, int width, float *line, float *smooth)
{
    for (int y = -1; y <= height; y++, smooth += width + 2) {
        const float *rows[5];
        for (int k = 0; k < 5; k++)
            rows[k] = luma + (size_t)inside(y + k - 2, height) * width;
        float *column = line + MARGIN;
#pragma omp simd
        for (int x = 0; x < width; x++)
            column[x] = rows[0][x] + rows[4][x] + 4.0f * (rows[1][x] + rows[3][x]) + 6.0f * rows[2][x];
        for (int x = 1; x <= MARGIN; x++) {
            column[-x] = column[0];
            column[width - 1 + x] = column[width - 1];
        }
#pragma omp simd
        for (int x = 0; x < width + 2; x++) /* `line + x` is two px to the left of output x */
            smooth[x] = (line[x] + line[x + 4] + 4.0f * (line[x + 1] + line[x + 3]) + 6.0f * line[x + 2]) *
                        (1.0f / 256.0f);
    }
}

/* One row of the structure tensor: (g_x + i g_y)² and |g|². */
INLINE void tensor_row(const float *smooth, int width, float *re, float *im, float *energy)
{
    const float *above = smooth, *here = smooth + width + 2, *below = here + width + 2;
#pragma omp simd
    for (int x = 0; x < width; x++) {
        float g_x = (here[x + 2] - here[x]) * 0.5f, g_y = (below[x + 1] - above[x + 1]) * 0.5f;
        re[x] = g_x * g_x - g_y * g_y;
        im[x] = 2.0f * g_x * g_y;
        energy[x] = g_x * g_x + g_y * g_y;
    }
}

/* Means of two rows by two columns; the last ones stand alone where a side is odd. */
INLINE void halve(const float *first, const float *second, int width, float *half)
{
#pragma omp simd
    for (int x = 0; x < width / 2; x++)
        half[x] = 0.25f * (first[2 * x] + first[2 * x + 1] + second[2 * x] + second[2 * x + 1]);
    if (width % 2)
        half[width / 2] = 0.5f * (first[width - 1] + second[width - 1]);
}

/* Binomial weights of order 2 along both axes; the border is repeated. */
INLINE void soften_row(const float *half, int rows, int columns, int y, float *line, float *soft)
{
    const float *above = half + (size_t)inside(y - 1, rows) * columns;
    const float *here = half + (size_t)y * columns;
    const float *below = half + (size_t)inside(y + 1, rows) * columns;
#pragma omp simd
    for (int x = 0; x < columns; x++)
        line[x + 1] = above[x] + below[x] + 2.0f * here[x];
    line[0] = line[1];
    line[columns + 1] = line[columns];
#pragma omp simd
    for (int x = 0; x < columns; x++)
        soft[x] = (line[x] + line[x + 2] + 2.0f * line[x + 1]) * (1.0f / 16.0f);
}

INLINE void soften(const float *half, int rows, int columns, float *line, float *soft)
{
    for (int y = 0; y < rows; y++)
        soften_row(half, rows, columns, y, line, soft + (size_t)y * columns);
}

/* The structure tensor: its energy at the photo's size, and all three parts at half of it. */
INLINE void structure_tensor(const float *smooth, int height, int width, float *lines, float *energy,
                             float *const half[3])
{
    const int columns = (width + 1) / 2;
    float *re[2] = {lines, lines + width}, *im[2] = {lines + 2 * width, lines + 3 * width};
    for (int y = 0; y < height; y += 2) {
        const int second = y + 1 < height; /* the last row may stand alone */
        float *here = energy + (size_t)y * width;
        const size_t to = (size_t)(y / 2) * columns;
        for (int k = 0; k <= second; k++)
            tensor_row(smooth + (size_t)(y + k) * (width + 2), width, re[k], im[k],
                       here + (size_t)k * width);
        halve(re[0], re[second], width, half[0] + to);
        halve(im[0], im[second], width, half[1] + to);
        halve(here, here + (size_t)second * width, width, half[2] + to);
    }
}

INLINE void coherence_of(const float *re, const float *im, size_t count, float *energy)
{
#pragma omp simd
    for (size_t n = 0; n < count; n++)
        energy[n] = sqrtf(re[n] * re[n] + im[n] * im[n]) / (energy[n] + 1e-6f);
}

/* Across the edge, to its brighter side. */
INLINE void normal_at(const float *smooth, int width, int x, int y, float re, float im, float *normal)
{
    const float *here = smooth + (size_t)(y + 1) * (width + 2) + x + 1;
    const float g_x = here[1] - here[-1], g_y = here[width + 2] - here[-width - 2];
    const float angle = atan2f(im, re) * 0.5f;
    const float n_x = cosf(angle), n_y = sinf(angle);
    const float sign = g_x * n_x + g_y * n_y < 0.0f ? -1.0f : 1.0f;
    normal[0] = sign * n_x;
    normal[1] = sign * n_y;
}

FOR_EACH_CPU
void find_points(const float *image, int height, int width, float *room, float *smooth, Points points)
{
    const size_t whole = (size_t)height * width;
    const int rows = (height + 1) / 2, columns = (width + 1) / 2;
    const size_t quarter = (size_t)rows * columns;
    float *luma = room, *energy = room; /* one after the other */
    float *half[3] = {room + whole, room + whole + quarter, room + whole + 2 * quarter};
    float *re = half[2] + quarter, *im = re + quarter, *coherence = im + quarter;
    float *lines = coherence + quarter;
    luma_of(image, whole, luma);
    smooth_luma(luma, height, width, lines, smooth);
    structure_tensor(smooth, height, width, lines, energy, half);
    soften(half[0], rows, columns, lines, re);
    soften(half[1], rows, columns, lines, im);
    soften(half[2], rows, columns, lines, coherence);
    coherence_of(re, im, quarter, coherence);
    for (int top = 0; top < height; top += CELL)
        for (int left = 0; left < width; left += CELL) {
            float best = -1.0f;
            int at_x = left, at_y = top;
            for (int y = top; y < height && y < top + CELL; y++)
                for (int x = left; x < width && x < left + CELL; x++) {
                    const float clear = energy[(size_t)y * width + x] *
                                        coherence[(size_t)(y / 2) * columns + x / 2];
                    if (!(clear <= best)) { /* also not-a-number */
                        best = clear;
                        at_x = x;
                        at_y = y;
                    }
                }
            const size_t there = (size_t)(at_y / 2) * columns + at_x / 2;
            normal_at(smooth, width, at_x, at_y, re[there], im[there], points.normals);
            points.pixels[0] = (float)at_x;
            points.pixels[1] = (float)at_y;
            *points.strengths++ = sqrtf(best);
            points.pixels += 2;
            points.normals += 2;
        }
}

size_t room_to_find(int height, int width)
{
    const size_t quarter = (size_t)((height + 1) / 2) * (size_t)((width + 1) / 2);
    return (size_t)height * width + 6 * quarter + 4 * ((size_t)width + 2 * MARGIN);
}
