// Spins in a member function of a template.
// g++ -O0 -g -fno-omit-frame-pointer
namespace shop {

template <typename Price>
class Basket {
public:
    explicit Basket(Price first) : sum(first) {}

    __attribute__((noinline)) Price total(int rounds)
    {
        for (int round = 0; round < rounds; round++)
            for (int step = 0; step < 20000; step++)
                sum = sum * 31 + 7;
        return sum;
    }

private:
    volatile Price sum;
};

} // namespace shop

int main()
{
    shop::Basket<unsigned long> basket(1);
    for (;;)
        basket.total(100);
}
