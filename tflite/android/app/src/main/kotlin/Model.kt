// Not compiled where it was written: see README.md.
package keras_parc.sample

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Paint
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.framework.image.ByteBufferExtractor
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.core.RunningMode
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier
import com.google.mediapipe.tasks.vision.imagesegmenter.ImageSegmenter
import com.google.mediapipe.tasks.vision.objectdetector.ObjectDetector
import kotlin.math.min

private const val LEAST_SCORE = 0.3f
private const val MOST = 5

/** What was found: the picture to show, and lines of text. */
class Found(val picture: Bitmap, val lines: List<String>)

fun interface Model {
    fun look(image: Bitmap): Found
}

/** The model in the assets, by its task: `res/values/model.xml`, which `keras-parc package` writes. */
fun openModel(context: Context): Model {
    val base = BaseOptions.builder().setModelAssetPath("model.tflite").build()
    return when (val task = context.getString(R.string.task)) {
        "classification" -> classifier(context, base)
        "detection" -> detector(context, base)
        "segmentation" -> segmenter(context, base)
        else -> throw IllegalArgumentException("no task $task")
    }
}

private fun classifier(context: Context, base: BaseOptions): Model {
    val options = ImageClassifier.ImageClassifierOptions.builder()
        .setBaseOptions(base).setRunningMode(RunningMode.IMAGE).setMaxResults(MOST).build()
    val task = ImageClassifier.createFromOptions(context, options)
    val crop = context.getString(R.string.crop).toFloat()
    val aspect = context.getString(R.string.aspect).toFloat() // width / height
    return Model { image ->
        // MediaPipe stretches what it gets: it gets the centre that the model was measured on.
        val part = centre(image, aspect, crop)
        val result = task.classify(BitmapImageBuilder(part).build())
        val categories = result.classificationResult().classifications()[0].categories()
        Found(part, categories.map { "${it.categoryName()}  ${percent(it.score())}" })
    }
}

private fun centre(image: Bitmap, aspect: Float, crop: Float): Bitmap {
    val height = (crop * min(image.height.toFloat(), image.width / aspect)).toInt()
    val width = (height * aspect).toInt()
    return Bitmap.createBitmap(image, (image.width - width) / 2, (image.height - height) / 2, width, height)
}

private fun detector(context: Context, base: BaseOptions): Model {
    val options = ObjectDetector.ObjectDetectorOptions.builder()
        .setBaseOptions(base).setRunningMode(RunningMode.IMAGE).setScoreThreshold(LEAST_SCORE).build()
    val task = ObjectDetector.createFromOptions(context, options)
    return Model { image ->
        val objects = task.detect(BitmapImageBuilder(image).build()).detections()
        val picture = image.copy(Bitmap.Config.ARGB_8888, true)
        val line = Paint().apply {
            color = Color.YELLOW
            style = Paint.Style.STROKE
            strokeWidth = picture.width / 150f
        }
        val text = Paint().apply {
            color = Color.YELLOW
            textSize = picture.width / 24f
        }
        val canvas = Canvas(picture)
        val lines = objects.map {
            val best = it.categories()[0]
            val words = "${best.categoryName()}  ${percent(best.score())}"
            canvas.drawRect(it.boundingBox(), line)
            canvas.drawText(words, it.boundingBox().left, it.boundingBox().top - line.strokeWidth, text)
            words
        }
        Found(picture, lines.take(MOST))
    }
}

private fun segmenter(context: Context, base: BaseOptions): Model {
    val options = ImageSegmenter.ImageSegmenterOptions.builder()
        .setBaseOptions(base).setRunningMode(RunningMode.IMAGE)
        .setOutputCategoryMask(true).setOutputConfidenceMasks(false).build()
    val task = ImageSegmenter.createFromOptions(context, options)
    val labels = task.labels
    return Model { image ->
        val mask = task.segment(BitmapImageBuilder(image).build()).categoryMask().get()
        val classes = ByteBufferExtractor.extract(mask)
        val colours = IntArray(mask.width * mask.height)
        val counts = IntArray(256)
        for (i in colours.indices) {
            val number = classes[i].toInt() and 0xff
            counts[number]++
            if (number > 0) colours[i] = colourOf(number) // class 0, the background, stays
        }
        val picture = image.copy(Bitmap.Config.ARGB_8888, true)
        val layer = Bitmap.createBitmap(colours, mask.width, mask.height, Bitmap.Config.ARGB_8888)
        Canvas(picture).drawBitmap(layer, 0f, 0f, null)
        val largest = counts.indices.filter { counts[it] > 0 }.sortedByDescending { counts[it] }.take(MOST)
        Found(picture, largest.map {
            "${labels.getOrElse(it) { _ -> "class $it" }}  ${percent(counts[it].toFloat() / colours.size)}"
        })
    }
}

/** PASCAL VOC's colour of a class, half transparent. */
private fun colourOf(number: Int): Int {
    fun channel(place: Int) = (0..2).sumOf { ((number shr (3 * it + place)) and 1) shl (7 - it) }
    return Color.argb(150, channel(0), channel(1), channel(2))
}

private fun percent(share: Float) = "${(100 * share).toInt()} %"
