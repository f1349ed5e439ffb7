#include "engine/model_config.h"

#include "engine/json_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Bounds that keep every later product of sizes far from overflow. */
enum { SIDE_MAX = 4096, WIDTH_MAX = 16384, LAYERS_MAX = 256, REGISTERS_MAX = 64 };

/* ---- fields ----------------------------------------------------------------------------------------- */

/* A whole number of object[name], or `otherwise` where there is none. */
static sac_status get_number(const json_t *object, const char *name, uint32_t otherwise, uint32_t max,
                             uint32_t *out, sac_error *err)
{
    const json_t *value = json_object_get(object, name);

    *out = otherwise;
    if (value == NULL || json_is_null(value))
        return SAC_OK;
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > (json_int_t)max)
        return sac_fail(err, SAC_MALFORMED, "config: %s must be a whole number up to %u", name, max);
    *out = (uint32_t)json_integer_value(value);
    return SAC_OK;
}

static sac_status get_real(const json_t *object, const char *name, double otherwise, double *out,
                           sac_error *err)
{
    const json_t *value = json_object_get(object, name);

    *out = otherwise;
    if (value == NULL || json_is_null(value))
        return SAC_OK;
    if (!json_is_number(value) || !isfinite(json_number_value(value)))
        return sac_fail(err, SAC_MALFORMED, "config: %s must be a number", name);
    *out = json_number_value(value);
    return SAC_OK;
}

static bool get_bool(const json_t *object, const char *name, bool otherwise)
{
    const json_t *value = json_object_get(object, name);

    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static const char *get_text(const json_t *object, const char *name, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text != NULL ? text : otherwise;
}

static sac_status get_three(const json_t *object, const char *name, float out[3], sac_error *err)
{
    const json_t *value = json_object_get(object, name);

    for (size_t c = 0; c < 3; c++) {
        const json_t *one = json_array_get(value, c);

        if (json_array_size(value) != 3 || !json_is_number(one) || !isfinite(json_number_value(one)))
            return sac_fail(err, SAC_MALFORMED, "config: %s must be three numbers", name);
        out[c] = (float)json_number_value(one);
    }
    return SAC_OK;
}

/* ---- pictures, as timm describes them ---------------------------------------------------------------- */

static sac_status timm_filter(const char *name, sac_filter *out, sac_error *err)
{
    if (strcmp(name, "bicubic") == 0)
        *out = SAC_FILTER_BICUBIC;
    else if (strcmp(name, "bilinear") == 0)
        *out = SAC_FILTER_BILINEAR;
    else
        return sac_fail(err, SAC_UNSUPPORTED, "config: interpolation %.32s; saccade has bicubic and bilinear",
                        name);
    return SAC_OK;
}

static sac_status timm_preprocess(const json_t *cfg, sac_preprocess *p, sac_error *err)
{
    const json_t *size = json_object_get(cfg, "input_size");
    const char *mode = get_text(cfg, "crop_mode", "center");
    double share;
    sac_status st;

    for (size_t i = 0; i < 3; i++) {
        const json_t *side = json_array_get(size, i);
        json_int_t value = json_integer_value(side);

        if (json_array_size(size) != 3 || !json_is_integer(side) || value < 1 || value > SIDE_MAX)
            return sac_fail(err, SAC_MALFORMED,
                            "config: pretrained_cfg.input_size must be [3, height, width]");
        if (i > 0)
            *(i == 1 ? &p->height : &p->width) = (uint32_t)value;
        else if (value != 3)
            return sac_fail(err, SAC_UNSUPPORTED, "config: a model for pictures of %d channels", (int)value);
    }
    st = timm_filter(get_text(cfg, "interpolation", "bicubic"), &p->filter, err);
    if (st == SAC_OK)
        st = get_real(cfg, "crop_pct", 0.875, &share, err);
    if (st == SAC_OK)
        st = get_three(cfg, "mean", p->mean, err);
    if (st == SAC_OK)
        st = get_three(cfg, "std", p->std, err);
    if (st != SAC_OK)
        return st;
    if (!(share > 0.1 && share <= 1))
        return sac_fail(err, SAC_MALFORMED, "config: crop_pct must lie between 0.1 and 1");
    if (strcmp(mode, "center") == 0 && p->width == p->height) {
        p->fit = SAC_FIT_CROP;
        p->shorter = (uint32_t)floor(p->width / share);
    } else if (strcmp(mode, "squash") == 0 && share == 1.0) {
        p->fit = SAC_FIT_SQUASH;
    } else {
        return sac_fail(err, SAC_UNSUPPORTED, "config: crop_mode %.32s with this input_size and crop_pct",
                        mode);
    }
    p->rounding = SAC_ROUNDING_FLOOR;
    return SAC_OK;
}

/* ---- pictures, as transformers' image processors describe them ----------------------------------------- */

/* {"height": h, "width": w} or a single number. */
static sac_status hf_size(const json_t *object, const char *name, uint32_t *width, uint32_t *height,
                          sac_error *err)
{
    const json_t *size = json_object_get(object, name);
    const json_t *w = json_is_integer(size) ? size : json_object_get(size, "width");
    const json_t *h = json_is_integer(size) ? size : json_object_get(size, "height");

    if (json_integer_value(w) < 1 || json_integer_value(w) > SIDE_MAX || json_integer_value(h) < 1 ||
        json_integer_value(h) > SIDE_MAX)
        return sac_fail(err, SAC_MALFORMED,
                        "preprocessor_config: %s must have a height and a width of 1 to %d", name, SIDE_MAX);
    *width = (uint32_t)json_integer_value(w);
    *height = (uint32_t)json_integer_value(h);
    return SAC_OK;
}

static sac_status hf_fit(const json_t *cfg, sac_preprocess *p, sac_error *err)
{
    const json_t *size = json_object_get(cfg, "size");
    const json_t *shorter = json_is_integer(size) ? size : json_object_get(size, "shortest_edge");

    if (!get_bool(cfg, "do_resize", true))
        return sac_fail(err, SAC_UNSUPPORTED, "preprocessor_config: do_resize must be true");
    if (json_object_get(size, "height") != NULL && !get_bool(cfg, "do_center_crop", false)) {
        p->fit = SAC_FIT_SQUASH;
        return hf_size(cfg, "size", &p->width, &p->height, err);
    }
    if (!json_is_integer(shorter) || !get_bool(cfg, "do_center_crop", true))
        return sac_fail(err, SAC_UNSUPPORTED,
                        "preprocessor_config: saccade prepares pictures by size.height and width, or by "
                        "size.shortest_edge and a centre crop");
    if (json_integer_value(shorter) < 1 || json_integer_value(shorter) > SIDE_MAX)
        return sac_fail(err, SAC_MALFORMED, "preprocessor_config: size must lie between 1 and %d", SIDE_MAX);
    p->fit = SAC_FIT_CROP;
    p->shorter = (uint32_t)json_integer_value(shorter);
    return hf_size(cfg, "crop_size", &p->width, &p->height, err);
}

static sac_status hf_scaling(const json_t *cfg, sac_preprocess *p, sac_error *err)
{
    double factor;
    sac_status st = get_real(cfg, "rescale_factor", 1.0 / 255, &factor, err);

    if (st != SAC_OK)
        return st;
    if (!get_bool(cfg, "do_rescale", true) || fabs(factor * 255 - 1) > 1e-6)
        return sac_fail(err, SAC_UNSUPPORTED, "preprocessor_config: pixels must be scaled by 1/255");
    for (int c = 0; c < 3; c++) {
        p->mean[c] = 0.0f;
        p->std[c] = 1.0f;
    }
    if (!get_bool(cfg, "do_normalize", true))
        return SAC_OK;
    st = get_three(cfg, "image_mean", p->mean, err);
    return st != SAC_OK ? st : get_three(cfg, "image_std", p->std, err);
}

static sac_status hf_preprocess(const json_t *cfg, sac_preprocess *p, sac_error *err)
{
    uint32_t filter;
    sac_status st = get_number(cfg, "resample", 3, 6, &filter, err);

    if (st != SAC_OK)
        return st;
    if (filter != 2 && filter != 3) /* Pillow's numbers */
        return sac_fail(err, SAC_UNSUPPORTED,
                        "preprocessor_config: resample %u; saccade has 2 (bilinear) and 3 (bicubic)", filter);
    p->filter = filter == 2 ? SAC_FILTER_BILINEAR : SAC_FILTER_BICUBIC;
    p->rounding = SAC_ROUNDING_HF;
    st = hf_fit(cfg, p, err);
    return st != SAC_OK ? st : hf_scaling(cfg, p, err);
}

/* ---- networks --------------------------------------------------------------------------------------- */

static sac_status timm_network(const json_t *config, sac_model_config *out, sac_error *err)
{
    const char *architecture = get_text(config, "architecture", "");
    const char *pool = get_text(config, "global_pool", "token");
    const json_t *cfg = json_object_get(config, "pretrained_cfg");

    if (strncmp(architecture, "vit_", 4) != 0 && strncmp(architecture, "deit", 4) != 0)
        return sac_fail(err, SAC_UNSUPPORTED,
                        "config: architecture %.64s; of timm's, saccade has vit_* and deit*", architecture);
    if (pool[0] != '\0' && strcmp(pool, "token") != 0)
        return sac_fail(err, SAC_UNSUPPORTED, "config: global_pool %.32s; saccade has token", pool);
    if (!json_is_object(cfg))
        return sac_fail(err, SAC_MALFORMED,
                        "config: no pretrained_cfg, so how pictures are prepared is unknown");
    snprintf(out->name, sizeof out->name, "%s", architecture);
    out->activation =
        strstr(architecture, "quickgelu") != NULL ? SAC_ACTIVATION_GELU_QUICK : SAC_ACTIVATION_GELU_ERF;
    out->eps = 1e-6f;
    sac_status st =
        get_number(json_object_get(config, "model_args"), "num_heads", 0, WIDTH_MAX, &out->heads, err);

    return st != SAC_OK ? st : timm_preprocess(cfg, &out->preprocess, err);
}

static sac_status hf_activation(const json_t *config, const char *otherwise, sac_activation *out,
                                sac_error *err)
{
    const char *name = get_text(config, "hidden_act", otherwise);

    if (strcmp(name, "gelu") == 0)
        *out = SAC_ACTIVATION_GELU_ERF;
    else if (strcmp(name, "gelu_pytorch_tanh") == 0 || strcmp(name, "gelu_new") == 0)
        *out = SAC_ACTIVATION_GELU_TANH;
    else if (strcmp(name, "quick_gelu") == 0)
        *out = SAC_ACTIVATION_GELU_QUICK;
    else
        return sac_fail(err, SAC_UNSUPPORTED, "config: hidden_act %.32s", name);
    return SAC_OK;
}

/* What the three families share; their defaults are those of transformers' configuration classes. */
static sac_status hf_network(const json_t *config, uint32_t image_size, uint32_t patch, double eps,
                             const char *activation, sac_model_config *out, sac_error *err)
{
    double value;
    sac_status st = get_number(config, "hidden_size", 768, WIDTH_MAX, &out->width, err);

    if (st == SAC_OK)
        st = get_number(config, "num_hidden_layers", 12, LAYERS_MAX, &out->layers, err);
    if (st == SAC_OK)
        st = get_number(config, "num_attention_heads", 12, WIDTH_MAX, &out->heads, err);
    if (st == SAC_OK)
        st = get_number(config, "intermediate_size", 3072, WIDTH_MAX * 8, &out->mlp, err);
    if (st == SAC_OK)
        st = get_number(config, "image_size", image_size, SIDE_MAX, &out->image_size, err);
    if (st == SAC_OK)
        st = get_number(config, "patch_size", patch, SIDE_MAX, &out->patch, err);
    if (st == SAC_OK)
        st = get_real(config, "layer_norm_eps", eps, &value, err);
    if (st == SAC_OK)
        st = hf_activation(config, activation, &out->activation, err);
    if (st != SAC_OK)
        return st;
    out->eps = (float)value;
    if (out->width == 0 || out->layers == 0 || out->mlp == 0 || out->heads == 0 ||
        out->width % out->heads != 0 || out->patch == 0 || out->image_size < out->patch ||
        !(out->eps > 0 && out->eps < 1))
        return sac_fail(err, SAC_MALFORMED, "config: sizes of the network do not fit each other");
    return SAC_OK;
}

static sac_status clip_network(const json_t *config, const json_t *vision, sac_model_config *out,
                               sac_error *err)
{
    sac_status st = hf_network(vision, 224, 32, 1e-5, "quick_gelu", out, err);

    return st != SAC_OK ? st : get_number(config, "projection_dim", 512, WIDTH_MAX, &out->projection, err);
}

static sac_status siglip_network(const json_t *vision, sac_model_config *out, sac_error *err)
{
    if (!get_bool(vision, "vision_use_head", true))
        return sac_fail(err, SAC_UNSUPPORTED, "config: a SigLIP without its pooling head");
    return hf_network(vision, 224, 16, 1e-6, "gelu_pytorch_tanh", out, err);
}

static sac_status dinov2_network(const json_t *config, bool registers, sac_model_config *out, sac_error *err)
{
    double ratio;
    sac_status st = hf_network(config, 224, registers ? 16 : 14, 1e-6, "gelu", out, err);

    if (st == SAC_OK)
        st = get_real(config, "mlp_ratio", 4, &ratio, err);
    if (st == SAC_OK && registers)
        st = get_number(config, "num_register_tokens", 4, REGISTERS_MAX, &out->registers, err);
    if (st != SAC_OK)
        return st;
    if (!(ratio > 0 && ratio <= 8))
        return sac_fail(err, SAC_MALFORMED, "config: mlp_ratio must lie between 0 and 8");
    out->mlp = (uint32_t)(out->width * ratio);
    if (get_bool(config, "use_swiglu_ffn", false)) { /* two thirds of it, rounded up to a multiple of 8 */
        out->mlp = ((uint32_t)(out->mlp * 2.0 / 3.0) + 7) / 8 * 8;
        out->activation = SAC_ACTIVATION_SWIGLU;
    }
    out->antialiased = registers;
    return SAC_OK;
}

static sac_status network(const json_t *config, sac_model_config *out, sac_error *err)
{
    const char *type = get_text(config, "model_type", "");
    const json_t *vision = json_object_get(config, "vision_config");

    if (json_object_get(config, "architecture") != NULL) {
        out->family = SAC_MODEL_TIMM;
        return timm_network(config, out, err);
    }
    if (strcmp(type, "clip") == 0 || strcmp(type, "clip_vision_model") == 0) {
        out->family = SAC_MODEL_CLIP;
        return clip_network(config, strcmp(type, "clip") == 0 ? vision : config, out, err);
    }
    if (strcmp(type, "siglip") == 0 || strcmp(type, "siglip_vision_model") == 0) {
        out->family = SAC_MODEL_SIGLIP;
        return siglip_network(strcmp(type, "siglip") == 0 ? vision : config, out, err);
    }
    if (strcmp(type, "dinov2") == 0 || strcmp(type, "dinov2_with_registers") == 0) {
        out->family = SAC_MODEL_DINOV2;
        return dinov2_network(config, strcmp(type, "dinov2") != 0, out, err);
    }
    return sac_fail(
        err, SAC_UNSUPPORTED,
        "config: model_type \"%.64s\"; saccade knows timm's ViTs, clip, dinov2, dinov2_with_registers and "
        "siglip",
        type);
}

/* ---- folder ----------------------------------------------------------------------------------------- */

static void name_after_folder(const char *folder, sac_model_config *out)
{
    size_t end = strlen(folder), begin;

    while (end > 1 && folder[end - 1] == '/')
        end--;
    for (begin = end; begin > 0 && folder[begin - 1] != '/'; begin--)
        ;
    snprintf(out->name, sizeof out->name, "%.*s", (int)(end - begin > 127 ? 127 : end - begin),
             folder + begin);
}

static sac_status check_preprocess(const sac_model_config *config, sac_error *err)
{
    const sac_preprocess *p = &config->preprocess;

    for (int c = 0; c < 3; c++)
        if (!(p->std[c] > 1e-6f))
            return sac_fail(err, SAC_MALFORMED, "config: the standard deviation of pixels must be above 0");
    if (p->fit == SAC_FIT_CROP && (p->shorter < p->width || p->shorter < p->height))
        return sac_fail(err, SAC_UNSUPPORTED, "config: a crop of %ux%u from pictures scaled to %u", p->width,
                        p->height, p->shorter);
    if (config->image_size != 0 && config->family != SAC_MODEL_DINOV2 &&
        (p->width != config->image_size || p->height != config->image_size))
        return sac_fail(err, SAC_MALFORMED,
                        "config: pictures are prepared to %ux%u but the network takes %ux%u", p->width,
                        p->height, config->image_size, config->image_size);
    return SAC_OK;
}

sac_status sac_model_config_load(const char *folder, sac_model_config *out, sac_error *err)
{
    json_t *config, *pictures;
    sac_status st;

    memset(out, 0, sizeof *out);
    name_after_folder(folder, out);
    st = sac_json_file_load(folder, "config.json", &config, err);
    if (st != SAC_OK)
        return st;
    st = network(config, out, err);
    json_decref(config);
    if (st == SAC_OK && out->family != SAC_MODEL_TIMM) {
        st = sac_json_file_load(folder, "preprocessor_config.json", &pictures, err);
        if (st != SAC_OK)
            return st;
        st = hf_preprocess(pictures, &out->preprocess, err);
        json_decref(pictures);
    }
    return st != SAC_OK ? st : check_preprocess(out, err);
}

size_t sac_model_config_text(const sac_model_config *c, char *text, size_t size)
{
    const sac_preprocess *p = &c->preprocess;
    int length = snprintf(
        text, size,
        "family %d patch %u width %u layers %u mlp %u heads %u image %u registers %u projection %u "
        "activation %d eps %.9g antialiased %d input %ux%u fit %d shorter %u filter %d rounding %d "
        "mean %.9g %.9g %.9g std %.9g %.9g %.9g length 1",
        (int)c->family, c->patch, c->width, c->layers, c->mlp, c->heads, c->image_size, c->registers,
        c->projection, (int)c->activation, (double)c->eps, c->antialiased, p->width, p->height, (int)p->fit,
        p->shorter, (int)p->filter, (int)p->rounding, (double)p->mean[0], (double)p->mean[1],
        (double)p->mean[2], (double)p->std[0], (double)p->std[1], (double)p->std[2]);

    return (size_t)length < size ? (size_t)length : size - 1;
}
