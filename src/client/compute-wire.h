// Between the plain types of compute.h and the schema, in both directions.
#pragma once

#include <capstan/client/compute.h>
#include <capstan/schema/compute.capnp.h>

namespace capstan::client {

ValueInfo readValueInfo(schema::ValueInfo::Reader from);
JobStatus readJobStatus(schema::JobStatus::Reader from);
Elements readElements(schema::Elements::Reader from);
void writeElements(schema::Elements::Builder to, const Elements& elements);
void writeNumber(schema::Operand::Builder to, const Number& number);
void writeSortOptions(schema::SortOptions::Builder to, const SortSettings& settings);

// Attributes and expectation of one file; never a resume key.
void writeUploadOptions(schema::UploadOptions::Builder to, const UploadSettings& settings);

}  // namespace capstan::client
