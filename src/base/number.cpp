#include <capstan/base/number.h>
