// JvmLoad: a server's kind of work, for ever, until it is killed: maps, strings, exceptions, lambdas, recursion, reflection, compression, threads and garbage.

import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import java.util.stream.IntStream;
import java.util.zip.CRC32;
import java.util.zip.Deflater;

public class JvmLoad {
    static volatile long sink;

    static long fibonacci(int n) {
        return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
    }

    static int failing(int depth) {
        if (depth == 0) throw new IllegalStateException("at the bottom");
        return failing(depth - 1) + 1;
    }

    public static int called(int value) {
        return value * 31 + 7;
    }

    static long words() {
        TreeMap<String, Integer> counts = new TreeMap<>();
        for (int i = 0; i < 3000; i++) counts.merge("word" + i % 700, i, Integer::sum);
        return counts.values().stream().mapToLong(Integer::longValue).sum();
    }

    static long failures() {
        long caught = 0;
        for (int i = 0; i < 50; i++) {
            try {
                caught += failing(20);
            } catch (IllegalStateException failure) {
                caught += failure.getStackTrace().length;
            }
        }
        return caught;
    }

    static long packed() {
        byte[] bytes = new byte[20000];
        for (int i = 0; i < bytes.length; i++) bytes[i] = (byte) (i * 17 ^ i >> 3);
        Deflater deflater = new Deflater();
        deflater.setInput(bytes);
        deflater.finish();
        byte[] out = new byte[bytes.length * 2];
        int length = deflater.deflate(out);
        deflater.end();
        CRC32 sum = new CRC32();
        sum.update(out, 0, length);
        return sum.getValue();
    }

    static void work() {
        try {
            Method method = JvmLoad.class.getMethod("called", int.class);
            List<byte[]> garbage = new ArrayList<>();
            for (long round = 0; ; round++) {
                sink += fibonacci(18) + words() + failures() + packed();
                sink += IntStream.range(0, 2000).filter(n -> n % 3 == 0).mapToLong(n -> (long) n * n).sum();
                for (int i = 0; i < 200; i++) sink += (int) method.invoke(null, i);
                garbage.add(new byte[100_000]);
                if (garbage.size() > 100) garbage.clear();
                synchronized (JvmLoad.class) {
                    sink++;
                }
            }
        } catch (ReflectiveOperationException impossible) {
            throw new AssertionError(impossible);
        }
    }

    public static void main(String[] args) throws InterruptedException {
        Thread other = new Thread(JvmLoad::work, "worker");
        other.setDaemon(true);
        other.start();
        System.out.println("ready");
        work();
    }
}
