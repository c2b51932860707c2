// One number out of many: sum, min, max and count of a source's elements. Knows no RPC.
#pragma once

#include <cstdint>
#include <span>

#include <capstan/base/error.h>
#include <capstan/base/number.h>
#include <capstan/server/compute/source.h>
#include <capstan/server/compute/work.h>

namespace capstan::server::compute {

// The numbers of Reduction in schema/compute.capnp.
enum class Reduction : uint16_t { UNSET, SUM, MIN, MAX, COUNT };

// The sum of single numbers, as Compute.add has it. Errors: invalidArgument with the operands in the sentence if the
// exact sum of ints does not fit in 64 bits. The caller sees to it that there are at least two.
Result<Number> addNumbers(std::span<const Number> operands);

// As Compute.reduce has it. Sums of floats are compensated (Neumaier 1974). COUNT works on text too, SUM, MIN and MAX
// on numbers; all of them see to it that what should be a number is one. work.total is set and work.done advanced, in
// bytes. Errors: invalidArgument (names the line; overflow; min or max of nothing; text), tooLarge (a line of more than
// a megabyte), changed, io, cancelled.
Result<Number> reduceElements(Source& source, Reduction reduction, Work& work);

}  // namespace capstan::server::compute
