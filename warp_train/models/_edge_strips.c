/* edge_strips.py, which is the reference, edge by edge, within the fastest cache.
 *
 * What that computes for all edges of a photo at once, 2048 x 33 x 13 numbers several times over, never
 * exists here. The loops run over the samples `t` along a strip, so that the compiler can use vectors.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>

#include "_edge_kernel.h"

#define STEPS 16
#define SAMPLES (2 * STEPS + 1)
#define NEAR_PX 5
#define FAR_PX 3
#define NEAR_FITS 4

typedef struct {
    float x[ROOM], y[ROOM];            /* the strip's middle, in px */
    float inside[ROOM];                /* 1 where that is in the photo */
    float slope[2 * NEAR_PX + 3][ROOM]; /* signed squares of the slopes across the strip */
} Strip;

typedef struct {
    float level, slope, bend, variance, support;
} Fit;

static const Fit STRAIGHT = {0, 0, 0, 0, 0};

INLINE void place(Strip *strip, Photo photo, const float *pixel, const float *normal, float step,
                  Fit course)
{
#pragma omp simd
    for (int t = 0; t < ROOM; t++) {
        float a = (float)(t - STEPS) * step;
        float away = course.level + a * (course.slope + a * (course.bend * 0.5f));
        float along = a * photo.unit;
        float x = pixel[0] - along * normal[1] + away * normal[0];
        float y = pixel[1] + along * normal[0] + away * normal[1];
        strip->x[t] = x;
        strip->y[t] = y;
        strip->inside[t] = (x >= 1.0f) & (x <= (float)(photo.width - 2)) & (y >= 1.0f) &
                                   (y <= (float)(photo.height - 2)) & (t < SAMPLES)
                               ? 1.0f
                               : 0.0f;
    }
}

/* Bilinear; positions outside the photo read its border. */
INLINE void read_row(float *row, const Strip *strip, Photo photo, const float *normal, float away)
{
    int at[ROOM];
    float right[ROOM], down[ROOM], a[ROOM], b[ROOM], c[ROOM], d[ROOM];
    const float last_x = (float)(photo.width - 1), last_y = (float)(photo.height - 1);
#pragma omp simd
    for (int t = 0; t < ROOM; t++) {
        float x = strip->x[t] + away * normal[0], y = strip->y[t] + away * normal[1];
        x = x > 0.0f ? x : 0.0f; /* also not-a-number */
        y = y > 0.0f ? y : 0.0f;
        x = x < last_x ? x : last_x;
        y = y < last_y ? y : last_y;
        int column = (int)x, line = (int)y;
        column = column < photo.width - 2 ? column : photo.width - 2;
        line = line < photo.height - 2 ? line : photo.height - 2;
        right[t] = x - (float)column;
        down[t] = y - (float)line;
        at[t] = line * photo.width + column;
    }
    for (int t = 0; t < ROOM; t++) { /* apart, because memory is read number by number */
        const float *corner = photo.luma + at[t];
        a[t] = corner[0];
        b[t] = corner[1];
        c[t] = corner[photo.width];
        d[t] = corner[photo.width + 1];
    }
#pragma omp simd
    for (int t = 0; t < ROOM; t++) {
        float above = a[t] + right[t] * (b[t] - a[t]), below = c[t] + right[t] * (d[t] - c[t]);
        row[t] = above + down[t] * (below - above);
    }
}

INLINE void read_strip(Strip *strip, Photo photo, const float *normal, const int reach)
{
    for (int s = 0; s < 2 * reach + 3; s++)
        read_row(strip->slope[s], strip, photo, normal, (float)(s - reach - 1));
    for (int s = 0; s < 2 * reach + 1; s++) {
#pragma omp simd
        for (int t = 0; t < ROOM; t++) {
            float slope = (strip->slope[s + 2][t] - strip->slope[s][t]) * 0.5f;
            strip->slope[s][t] = slope * fabsf(slope);
        }
    }
}

/* Where brightness changes most, and how much. */
INLINE void line(const Strip *strip, const float *expected, const int reach, float window,
                 float turned, float *offset, float *total)
{
    const float per_px = 1.0f / window;
#pragma omp simd
    for (int t = 0; t < ROOM; t++) {
        float up = 0, down = 0, up_moment = 0, down_moment = 0;
#pragma GCC unroll 16
        for (int s = 0; s < 2 * reach + 1; s++) {
            float across = (float)(s - reach), part = (across - expected[t]) * per_px;
            float near = 1.0f - part * part;
            near = near > 0.0f ? near : 0.0f;
            float value = near * near * strip->slope[s][t];
            float rising = value > 0.0f ? value : 0.0f, falling = rising - value;
            up += rising;
            down += falling;
            up_moment += rising * across;
            down_moment += falling * across;
        }
        int falls = down > turned * up;
        float whole = (falls ? down : up) + 1e-12f;
        offset[t] = (falls ? down_moment : up_moment) / whole;
        total[t] = whole;
    }
}

/* Weighted least squares of a parabola; `expected` becomes the parabola. */
INLINE Fit fit_parabola(const Strip *strip, const Numbers *numbers, const float *gauss,
                        float longest, float jump, const float *offset, const float *total,
                        float *expected)
{
    float weight[ROOM];
    float m0 = 0, m1 = 0, m2 = 0, m11 = 0, m12 = 0, m22 = 0, h0 = 0, h1 = 0, h2 = 0, all = 0;
    const float unit = longest / 2, step = numbers->step * 2; /* of one size, in `unit` */
    const float clearest = total[STEPS] * numbers->faint + 1e-7f;
#pragma omp simd reduction(+ : m0, m1, m2, m11, m12, m22, h0, h1, h2, all)
    for (int t = 0; t < ROOM; t++) {
        float away = (offset[t] - expected[t]) * jump;
        float trust = strip->inside[t] * total[t] / ((total[t] + clearest) * (1.0f + away * away));
        float one = gauss[t] * trust, wanted = one * offset[t];
        float a = (float)(t - STEPS) * step, a2 = a * a * 0.5f;
        weight[t] = one;
        m0 += one;
        m1 += one * a;
        m2 += one * a2;
        m11 += one * a * a;
        m12 += one * a * a2;
        m22 += one * a2 * a2;
        h0 += wanted;
        h1 += wanted * a;
        h2 += wanted * a2;
        all += gauss[t];
    }
    const float seen = m0;
    m0 += numbers->ridge[0];
    m11 += numbers->ridge[1];
    m22 += numbers->ridge[2];
    /* Level and slope eliminated: Schur complements. */
    const float b11 = m11 - m1 * m1 / m0, b12 = m12 - m1 * m2 / m0, g1 = h1 - m1 * h0 / m0;
    const float c22 = m22 - m2 * m2 / m0 - b12 * b12 / b11;
    const float bend = (h2 - m2 * h0 / m0 - b12 * g1 / b11) / c22;
    const float slope = (g1 - b12 * bend) / b11, level = (h0 - m1 * slope - m2 * bend) / m0;
    float spread = 0;
#pragma omp simd reduction(+ : spread)
    for (int t = 0; t < ROOM; t++) {
        float a = (float)(t - STEPS) * step;
        expected[t] = level + a * (slope + a * (bend * 0.5f));
        float away = offset[t] - expected[t];
        spread += weight[t] * away * away;
    }
    spread = (spread / (seen + 1e-6f) + numbers->least_spread) / numbers->share;
    const float square = unit * unit;
    const Fit fit = {level, slope / unit, bend / square, spread / c22 / (square * square),
                     seen / all};
    return fit;
}

FOR_EACH_CPU
void trace_photo(Photo photo, const Numbers *numbers, const float *pixels, const float *normals,
                 Py_ssize_t count, float *found)
{
    Strip strip;
    float expected[ROOM], offset[ROOM], total[ROOM];
    for (Py_ssize_t n = 0; n < count; n++, found += FOUND) {
        const float *pixel = pixels + 2 * n, *normal = normals + 2 * n;
        Fit fit = STRAIGHT;
        place(&strip, photo, pixel, normal, numbers->step * numbers->longest[0], STRAIGHT);
        read_strip(&strip, photo, normal, NEAR_PX);
        for (int t = 0; t < ROOM; t++)
            expected[t] = 0;
        for (int k = 0; k < NEAR_FITS; k++) {
            line(&strip, expected, NEAR_PX, k ? numbers->window : numbers->first_window,
                 numbers->turned, offset, total);
            fit = fit_parabola(&strip, numbers, numbers->gauss[k], numbers->longest[0],
                               k ? 1.0f / numbers->jump : 0.0f, offset, total, expected);
            if (k) { /* the first fit is a rough one, by which the others start */
                found[3 * k - 3] = fit.bend;
                found[3 * k - 2] = fit.variance;
                found[3 * k - 1] = fit.support;
            }
            if (k == 2)
                found[FOUND - 1] = fit.slope;
        }
        const float bend = fit.bend;
        place(&strip, photo, pixel, normal, numbers->step * numbers->longest[1], fit);
        read_strip(&strip, photo, normal, FAR_PX);
        for (int t = 0; t < ROOM; t++)
            expected[t] = 0;
        for (int k = NEAR_FITS; k < FITS; k++) {
            line(&strip, expected, FAR_PX, numbers->window, numbers->turned, offset, total);
            fit = fit_parabola(&strip, numbers, numbers->gauss[k], numbers->longest[1],
                               1.0f / numbers->jump, offset, total, expected);
        }
        found[9] = bend + fit.bend;
        found[10] = fit.variance;
        found[11] = fit.support;
    }
}
