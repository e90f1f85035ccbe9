// SPDX-License-Identifier: MIT
#ifndef HYMN_APP_EXIF_H
#define HYMN_APP_EXIF_H

#include <stddef.h>
#include <stdint.h>

// The orientation, 1..8, in the TIFF structure of an EXIF block (what follows "Exif\0\0" in a JPEG's APP1 segment, or
// the whole of a PNG's eXIf chunk). 1 where there is none or the block is broken: a photograph with a damaged EXIF
// block is still a photograph.
int exif_orientation(const uint8_t *tiff, size_t size);

#endif
